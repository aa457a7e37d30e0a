"""Clips of the model's size, uint8, from a data path: random ones for training, fixed ones for evaluation."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trivd.config import DataConfig, ModelConfig
from trivd.data.datasets.digits import MovingDigits
from trivd.data.datasets.layouts import find
from trivd.data.datasets.robot_pushing import ROBOT_PUSHING
from trivd.data.formats.frames import UnreadableVideo
from trivd.data.listing import ListingSource
from trivd.data.source import VideoSource, span_of
from trivd.data.splits import Split, existing_split
from trivd.data.store.source import StoreSource, is_store
from trivd.runtime.errors import TrivdError

MOVING_DIGITS = "moving-digits"
VALIDATION_DIGITS_CLIPS = 10_000


class Clip(NamedTuple):
    """A clip and its class."""

    video: NDArray[np.uint8]  # (T, H, W, C), H = W = the model's resolution
    label: int  # 0 where the data have no classes


@dataclass(frozen=True)
class ClipShape:
    """What clips look like, where there is no model that takes them."""

    frames: int
    resolution: int  # height and width, pixels
    image_channels: int  # 3 (RGB) or 1 (grey)
    classes: int = 0  # 0: any number of them


class ClipDataset(Protocol):
    """One split of a data set."""

    split: Split
    classes: tuple[str, ...]  # names; empty when the data carry no labels
    fps: float | None  # rate of all videos; None: each has its own, or none
    summary: list[str]  # what was found, one line each, for the user

    def __len__(self) -> int:
        """Number of clips of an epoch."""
        ...

    @property
    def evaluation_clips(self) -> int:
        """Number of clips that `evaluation_clip` offers."""
        ...

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        """The training clip `index`, whose start and crop are drawn from `rng`."""
        ...

    def evaluation_clip(self, index: int) -> Clip:
        """The evaluation clip `index`, the same at every call."""
        ...


class FixedClips(ABC):
    """Clips that are the same in training and in evaluation."""

    @property
    def evaluation_clips(self) -> int:
        return len(self)

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self.evaluation_clip(index)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def evaluation_clip(self, index: int) -> Clip: ...


class VideoClips:
    """Clips of `frames` frames, `stride` apart, cut from videos that are at least as long.

    Training clip i stands for the i-th of the non-overlapping windows of all videos, in order: it is a window of the
    same video at a random start with a random crop, so a video's weight is its length. Evaluation clip i is the i-th of
    the windows that start `evaluation_step` frames apart (None: that do not overlap), with a centre crop.
    """

    def __init__(
        self, source: VideoSource, frames: int, stride: int, resolution: int, evaluation_step: int | None = None
    ) -> None:
        self.source = source
        self.frames = frames
        self.stride = stride
        self.resolution = resolution
        self.split = source.split
        self.classes = source.classes
        self.fps = source.fps
        self.summary = source.summary
        self.span = span_of(frames, stride)
        # Number of the first window of each video, and after the last one the number of all windows.
        lengths = np.asarray(source.lengths, np.int64)
        self._first = np.concatenate([[0], np.cumsum(lengths // self.span)])
        self._step = evaluation_step or self.span
        self._first_evaluated = np.concatenate([[0], np.cumsum((lengths - self.span) // self._step + 1)])

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def evaluation_clips(self) -> int:
        return int(self._first_evaluated[-1])

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        video, _ = _locate(self._first, index)
        start = int(rng.integers(self.source.lengths[video] - self.span + 1))
        frames = self.source.read(video, start, self.frames, self.stride)
        top, left = (int(rng.integers(size - self.resolution + 1)) for size in frames.shape[1:3])
        return self._crop(frames, top, left, video)

    def evaluation_clip(self, index: int) -> Clip:
        video, window = _locate(self._first_evaluated, index)
        frames = self.source.read(video, window * self._step, self.frames, self.stride)
        top, left = ((size - self.resolution) // 2 for size in frames.shape[1:3])
        return self._crop(frames, top, left, video)

    def _crop(self, frames: NDArray[np.uint8], top: int, left: int, video: int) -> Clip:
        crop = frames[:, top : top + self.resolution, left : left + self.resolution]
        return Clip(np.ascontiguousarray(crop), self.source.labels[video])


def _locate(first: NDArray[np.int64], index: int) -> tuple[int, int]:
    """The video and the window in it, from the number of each video's first window and, last, that of all windows."""
    if not 0 <= index < first[-1]:
        raise IndexError(f"clip {index} of {first[-1]}")
    video = int(np.searchsorted(first, index, side="right")) - 1
    return video, index - int(first[video])


class WrappedClips:
    """A `ClipDataset` that wraps another one; a subclass defines how evaluation clips are read."""

    def __init__(self, clips: ClipDataset) -> None:
        self._clips = clips
        self.split = clips.split
        self.classes = clips.classes
        self.fps = clips.fps
        self.summary = clips.summary

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def evaluation_clips(self) -> int:
        return self._clips.evaluation_clips

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self._clips.training_clip(index, rng)


class ReadableClips(WrappedClips):
    """Evaluation clips for scores during training; the next readable one replaces one that can no longer be read."""

    def __init__(self, clips: ClipDataset) -> None:
        super().__init__(clips)
        self.unreadable: list[str] = []  # a message for each failure

    def evaluation_clip(self, index: int) -> Clip:
        """The clip, or the next readable one. Raises UnreadableVideo if there is none."""
        for step in range(self.evaluation_clips):
            try:
                return self._clips.evaluation_clip((index + step) % self.evaluation_clips)
            except UnreadableVideo as error:
                self.unreadable.append(str(error))
                failed = error
        raise failed


class DigitClips(FixedClips):
    """Moving digits: clip i of the split, which is random already."""

    def __init__(self, digits: MovingDigits) -> None:
        self.digits = digits
        self.split = digits.split
        self.classes = digits.classes
        self.fps: float | None = None  # drawn frames have no times
        self.summary = [f"{MOVING_DIGITS}, {digits.split}: {len(digits):,} clips, {len(self.classes)} classes"]

    def __len__(self) -> int:
        return len(self.digits)

    def evaluation_clip(self, index: int) -> Clip:
        return Clip(self.digits.clip(index), self.digits.label(index))


def open_clips(
    path: str | Path, split: Split, data: DataConfig, model: ModelConfig | ClipShape, *, exact: bool = False
) -> ClipDataset:
    """Clips for a model, from "moving-digits", a store made by `trivd prepare`, a folder of videos, or one video.

    Args:
        path: of the data, or the name of the embedded data set.
        split: whose clips; where there is one held-out split alone, it is taken for the other.
        data: how clips are cut.
        model: frames, resolution, channels and classes.
        exact: whether the other held-out split will not do.

    Raises:
        TrivdError: there is no such data or split, it holds no clip of this length, or it does not fit the model.
    """
    dataset = _open(path, split, data, model, exact)
    if model.classes > 0 and model.classes != len(dataset.classes):
        raise TrivdError(
            f"The model has {model.classes} classes but {path} has {len(dataset.classes)}; "
            f"set --model.classes {len(dataset.classes)}, or 0 to train without classes."
        )
    return dataset


def _open(path: str | Path, split: Split, data: DataConfig, model: ModelConfig | ClipShape, exact: bool) -> ClipDataset:
    if str(path) == MOVING_DIGITS:
        split = existing_split(("train", "validation"), split, path, exact)
        clips = data.digits_clips if split == "train" else VALIDATION_DIGITS_CLIPS
        return DigitClips(
            MovingDigits(
                split,
                frames=model.frames,
                stride=data.stride,
                resolution=model.resolution,
                channels=model.image_channels,
                digits=data.digits,
                clips=clips,
            )
        )
    root = Path(path)
    if not (root.is_dir() or root.is_file()):
        if root.name == ROBOT_PUSHING:
            raise TrivdError(
                f"{ROBOT_PUSHING} is simulated into a store: run `trivd prepare {ROBOT_PUSHING} STORE`, then name "
                "STORE."
            )
        raise TrivdError(
            f"{root} is not a folder of videos; name one, a store made by `trivd prepare`, or {MOVING_DIGITS}."
        )
    span = span_of(model.frames, data.stride)
    source: VideoSource
    if is_store(root):
        source = StoreSource(root, split, span, data.balanced_split, data.validation_share, exact=exact)
        _check_store(source, data, model)
    else:
        source = ListingSource(find(root, data), split, model.resolution, model.image_channels, span, exact=exact)
    return VideoClips(source, model.frames, data.stride, model.resolution, data.evaluation_step)


def _check_store(source: StoreSource, data: DataConfig, model: ModelConfig | ClipShape) -> None:
    """Refuse a store of frames that the model does not take, or of another rate than the one asked for.

    Raises:
        TrivdError: the resolution, the channels or the rate differ.
    """
    for name, stored, wanted in (
        ("resolution", source.resolution, model.resolution),
        ("image_channels", source.channels, model.image_channels),
    ):
        if stored != wanted:
            raise TrivdError(
                f"{source.root} was prepared with {name} {stored} but the model has {wanted}; prepare the videos again "
                f"with --{name.replace('_', '-')} {wanted}, or train with --model.{name.replace('_', '-')} {stored}."
            )
    if data.fps is not None and data.fps != source.fps:
        made = "with the videos' own frames" if source.fps is None else f"at {source.fps:g} frames a second"
        raise TrivdError(
            f"{source.root} was prepared {made} but data.fps is {data.fps:g}; prepare the videos again with --fps "
            f"{data.fps:g}, or drop data.fps (trivd train --data.fps None)."
        )
