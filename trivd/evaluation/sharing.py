"""Parts of an evaluation, computed batch by batch, kept on disk, and shared by the processes of torchrun."""

from collections.abc import Callable, Sequence

import torch

from trivd.data.ahead import ReadAhead
from trivd.data.clips import ClipDataset
from trivd.evaluation.collecting import Columns, Part, batches, collect
from trivd.evaluation.partial import PartialResults
from trivd.evaluation.readable import LeavingOut
from trivd.evaluation.subjects import Progress
from trivd.runtime.distributed import any_process, barrier, rank, world_size


class SharedParts:
    """Measures parts of an evaluation of some clips; called again after a stop, it resumes.

    Args:
        clips: whose parts are measured.
        partial: where finished batches are kept.
        batch_size: clips at once.
        device: of the computation.
        progress: called before the first and after each batch.
    """

    def __init__(
        self, clips: ClipDataset, partial: PartialResults, batch_size: int, device: torch.device, progress: Progress
    ) -> None:
        self._ahead = ReadAhead(clips, device)
        self.readable = LeavingOut(self._ahead)  # where parts must take their clips from
        self._partial = partial
        self._batch_size = batch_size
        self._device = device
        self._progress = progress

    def collected(
        self, what: str, part: Part, numbers: Sequence[int], prepare: Callable[[], None] = lambda: None
    ) -> Columns:
        """Columns of the clips that can be read; each process computes some of the batches and reads all.

        Args:
            what: name of the part, for messages and files.
            part: computes the columns of some clips.
            numbers: of the clips.
            prepare: called in all processes before the first batch, if one of them has to compute any.
        """
        name, size, only = what.replace(" ", "-"), self._batch_size, self.readable.only_readable(part)
        parts = batches(numbers, size)
        missing = self._partial.missing(name, parts)
        if any_process(bool(missing), self._device):
            prepare()
        self._progress(what, 0, len(numbers))
        own = parts[rank() :: world_size()]
        to_read = [number for batch in own if batch in missing for number in batch]
        with self._ahead.expecting(to_read, 2 * size):
            for done, _ in enumerate(self._partial.complete(name, only, own), start=1):
                self._progress(what, min(done * size * world_size(), len(numbers)), len(numbers))
        barrier()
        return collect(self._partial.kept(name, only), numbers, size)
