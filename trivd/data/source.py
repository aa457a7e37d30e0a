"""The interface of a collection of videos from which clips are cut."""

from collections.abc import Sequence
from typing import Protocol

from trivd.data.splits import Split
from trivd.runtime.pixels import Pixels


class VideoSource(Protocol):
    """Videos of one split, their short side already at the model's resolution."""

    split: Split
    classes: tuple[str, ...]  # names; empty when the videos carry no labels
    fps: float | None  # rate that the videos have or are read at; None: each has its own
    summary: list[str]  # what was found, one line each, for the user

    @property
    def names(self) -> Sequence[str]:
        """Name of each video, for messages."""
        ...

    @property
    def labels(self) -> Sequence[int]:
        """Class of each video; 0 without classes."""
        ...

    @property
    def lengths(self) -> Sequence[int]:
        """Number of frames of each video."""
        ...

    def read(self, video: int, start: int, count: int, stride: int) -> Pixels:
        """Frames start, start + stride, ... of one video: (count, H, W, C) uint8, min(H, W) = resolution."""
        ...


def span_of(frames: int, stride: int) -> int:
    """Number of consecutive video frames that a clip of `frames` frames, `stride` apart, spans."""
    return (frames - 1) * stride + 1
