"""What a collection of videos must offer so that clips can be cut from it."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


class VideoSource(Protocol):
    """Videos of one split, their short side already at the wanted resolution."""

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
