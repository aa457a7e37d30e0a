"""Training, validation and test splits: their names, the balanced split of the paper, and splits by hash or in time.

Where the data hold out no video, a hash of each video's name decides; a single video is cut in time.
"""

import hashlib
import itertools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from trivd.runtime.errors import TrivdError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TRAIN_PERCENT = 70  # of the training videos that the balanced split trains on (C.1)


class Segment(NamedTuple):
    """Consecutive frames of a video that belong to one split."""

    video: int  # its number
    split: Split
    first: int  # number of its first frame
    frames: int


def existing_split(available: Collection[Split], wanted: Split, data: str | Path, exact: bool) -> Split:
    """The split to use: `wanted`, or the other held-out split if the data set has that one alone.

    Args:
        available: splits of the data set.
        wanted: by the caller.
        data: path or name of the data set, for the message.
        exact: whether the other held-out split will not do.

    Raises:
        TrivdError: there is no such split, and it has to be that one.
    """
    other: dict[Split, Split] = {"validation": "test", "test": "validation"}
    if wanted in available or not available:
        return wanted
    if exact:
        there = " and ".join(split for split in SPLITS if split in available)
        raise TrivdError(
            f"{data} has no {wanted} split, only {there}; name one of these with --split, or give other data."
        )
    return other[wanted] if other.get(wanted) in available else wanted


def balanced_splits(splits: Sequence[Split]) -> list[Split]:
    """The paper's balanced split: the first 70% of train stay in it, its rest and all others become test (C.1).

    Args:
        splits: split of each video, in the data set's order.
    """
    kept = splits.count("train") * TRAIN_PERCENT // 100
    before = itertools.accumulate((split == "train" for split in splits), initial=0)
    return ["train" if split == "train" and n < kept else "test" for split, n in zip(splits, before, strict=False)]


def hashed_splits(names: Sequence[str], validation_share: float) -> list[Split]:
    """Hold out the videos with small hashes, so that no video changes sides when others are added or removed.

    A single video is used for training.
    """
    places = [_place(name) for name in names]
    share = validation_share if len(names) > 1 else 0.0
    if len(names) > 1:  # few videos may all fall on one side: the nearest one then changes sides
        smallest, *_, largest = sorted(places)
        share = min(max(share, float(np.nextafter(smallest, 1.0))), largest)
    return ["validation" if place < share else "train" for place in places]


def divide(
    root: Path, names: Sequence[str], lengths: Sequence[int], span: int, validation_share: float
) -> tuple[list[Segment], str]:
    """Divide usable videos that all lie on one side into training and validation.

    Args:
        root: folder or file of the data, for messages.
        names: name of each video.
        lengths: number of frames of each; at least `span`.
        span: number of consecutive frames that a clip spans.
        validation_share: share of the videos, or of the frames of a single one.

    Returns:
        The segments of both splits, and a note for the user.

    Raises:
        TrivdError: there is only one video, and it is too short to be cut.
    """
    if len(names) > 1:
        splits = hashed_splits(names, validation_share)
        segments = [Segment(number, split, 0, lengths[number]) for number, split in enumerate(splits)]
        return segments, f"split among the usable videos: {splits.count('validation')} of {len(names)} for validation"
    frames = lengths[0]
    if frames < 2 * span:
        raise TrivdError(
            f"{root} has one usable video, {names[0]}, of {frames} frames; to be cut in time into training and "
            f"validation it needs {2 * span}. Add videos, or ask for shorter clips."
        )
    cut = frames - min(max(span, round(frames * validation_share)), frames - span)
    note = f"one usable video, cut in time: frames 0 to {cut - 1} for training, {cut} to {frames - 1} for validation"
    return [Segment(0, "train", 0, cut), Segment(0, "validation", cut, frames - cut)], note


def _place(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
