"""Clips that cannot be read: an evaluation leaves them out, names and counts them."""

from collections.abc import Sequence
from contextlib import suppress

import torch

from trivd.data.clips import Clip, ClipDataset, WrappedClips
from trivd.data.formats.frames import UnreadableVideo
from trivd.evaluation.collecting import Columns, Part
from trivd.runtime.errors import TrivdError

NUMBER = "number"  # name of the column of clip numbers
MOST_NAMED = 20  # unreadable clips or videos that are named one by one


class LeavingOut(WrappedClips):
    """A data set whose clips are measured in parts, without those that cannot be read."""

    def __init__(self, clips: ClipDataset) -> None:
        super().__init__(clips)
        self._read: dict[int, Clip] = {}  # clips of the part that is being measured

    def evaluation_clip(self, index: int) -> Clip:
        return self._read.pop(index, None) or self._clips.evaluation_clip(index)

    def only_readable(self, part: Part) -> Part:
        """`part` for the clips that can be read, with a column of their numbers; no columns if none can be read."""

        def measure(numbers: Sequence[int]) -> Columns:
            self._read.clear()
            for number in numbers:
                with suppress(UnreadableVideo):
                    self._read[number] = self._clips.evaluation_clip(number)
            readable = list(self._read)
            return {NUMBER: torch.tensor(readable)} | part(readable) if readable else {}

        return measure


def in_common(measured: Sequence[Columns], clips: ClipDataset, numbers: Sequence[int]) -> list[Columns]:
    """The rows of the clips that all of several measurements have; a disk may fail between them.

    Args:
        measured: of the clips of these numbers, in order; see `LeavingOut.only_readable`.
        clips: where they come from.
        numbers: of all of them.

    Raises:
        TrivdError: no clip is left.
    """
    common = set(numbers).intersection(*(columns[NUMBER].tolist() if columns else () for columns in measured))
    if not common:
        raise TrivdError(f"None of {len(numbers)} held-out clips can be read. The first: {why(clips, numbers[0])}")
    kept = torch.tensor(sorted(common))
    return [
        {name: column[torch.isin(columns[NUMBER], kept)] for name, column in columns.items()} for columns in measured
    ]


def left_out(clips: ClipDataset, numbers: Sequence[int]) -> list[str]:
    """A line about each clip that is left out, up to `MOST_NAMED`."""
    lines = [f"Left out: {why(clips, number)}" for number in numbers[:MOST_NAMED]]
    return lines + ([f"... and {len(numbers) - MOST_NAMED:,} more clips."] if len(numbers) > MOST_NAMED else [])


def why(clips: ClipDataset, number: int) -> str:
    """A sentence that names the video of a clip that could not be read."""
    try:
        clips.evaluation_clip(number)
    except UnreadableVideo as error:
        return str(error)
    return f"clip {number} could not be read when it was its turn; now it can be."
