"""What a collection of videos must offer so that clips can be cut from it."""

import itertools
from collections.abc import Collection, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TRAIN_PERCENT = 70  # of the training videos that the balanced split trains on (C.1)


class VideoSource(Protocol):
    """Videos of one split, their short side already at the wanted resolution."""

    split: Split
    classes: tuple[str, ...]  # names; empty when the videos carry no labels
    summary: list[str]  # what was found, one line each, for the user

    @property
    def names(self) -> Sequence[str]:
        """One per video, for messages."""
        ...

    @property
    def labels(self) -> Sequence[int]:
        """Class of each video; 0 without classes."""
        ...

    @property
    def lengths(self) -> Sequence[int]:
        """Frames of each video."""
        ...

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        """Frames start, start + stride, ... of one video: (count, H, W, C) uint8, min(H, W) = resolution."""
        ...


def span_of(frames: int, stride: int) -> int:
    """Frames of the video that a clip of `frames` frames, `stride` apart, reaches over."""
    return (frames - 1) * stride + 1


def existing_split(available: Collection[Split], wanted: Split) -> Split:
    """`wanted`, or the held-out split that there is where a data set calls its only one the other name."""
    other: dict[Split, Split] = {"validation": "test", "test": "validation"}
    if wanted not in available and other.get(wanted) in available:
        return other[wanted]
    return wanted


def balanced(splits: Sequence[Split]) -> list[Split]:
    """The paper's balanced split: the first 70% of train stay in it, its rest and all others become test (C.1).

    Args:
        splits: of each video, in the data set's order.
    """
    kept = splits.count("train") * TRAIN_PERCENT // 100
    before = itertools.accumulate((split == "train" for split in splits), initial=0)
    return ["train" if split == "train" and n < kept else "test" for split, n in zip(splits, before, strict=False)]
