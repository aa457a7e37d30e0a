"""Which videos are held out where the data do not say it: by a hash of each path; a single video is cut in time."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trivd.data.source import Split
from trivd.runtime.errors import TrivdError


class Part(NamedTuple):
    """Consecutive frames of a video."""

    video: int  # its number
    split: Split
    first: int  # number of its first frame
    frames: int


def hashed_splits(names: Sequence[str], validation_share: float) -> list[Split]:
    """Hold out the videos with small hashes, so that no video changes sides when others come or go.

    A single video is for training.
    """
    places = [_place(name) for name in names]
    share = validation_share if len(names) > 1 else 0.0
    if len(names) > 1:  # few videos may all fall on one side: the nearest one then changes sides
        smallest, *_, largest = sorted(places)
        share = min(max(share, float(np.nextafter(smallest, 1.0))), largest)
    return ["validation" if place < share else "train" for place in places]


def divide(
    root: Path, names: Sequence[str], lengths: Sequence[int], span: int, validation_share: float
) -> tuple[list[Part], str]:
    """Both splits of usable videos, all of which are on one side; and a note for the user.

    Args:
        root: of the data, for messages.
        names: of the videos.
        lengths: frames of each; at least `span`.
        span: frames that a clip reaches over.
        validation_share: of the videos, or of the frames of a single one.

    Raises:
        TrivdError: there is but one, too short to be cut.
    """
    if len(names) > 1:
        splits = hashed_splits(names, validation_share)
        parts = [Part(number, split, 0, lengths[number]) for number, split in enumerate(splits)]
        return parts, f"split among the usable videos: {splits.count('validation')} of {len(names)} for validation"
    frames = lengths[0]
    if frames < 2 * span:
        raise TrivdError(
            f"{root} has one usable video, {names[0]}, of {frames} frames; to be cut in time into training and "
            f"validation it needs {2 * span}. Add videos, or ask for shorter clips."
        )
    cut = frames - min(max(span, round(frames * validation_share)), frames - span)
    note = f"one usable video, cut in time: frames 0 to {cut - 1} for training, {cut} to {frames - 1} for validation"
    return [Part(0, "train", 0, cut), Part(0, "validation", cut, frames - cut)], note


def _place(name: str) -> float:
    """A number in [0, 1) that a name always has."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
