"""Anybody's predictions in files, beside the true videos, as data set and subject of an evaluation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.clips import Clip
from trivd.data.decode import is_video, probe, read_frames
from trivd.data.frames import check_bytes
from trivd.data.source import Split
from trivd.errors import TrivdError
from trivd.evaluation.scores import Clips
from trivd.video import to_float

Pixels = NDArray[np.uint8]


class PredictionFiles:
    """True videos, and one or more predictions of each: a `ClipDataset` of the truth and a `Forecaster` at once.

    TRUTH holds one video per clip: clip.mp4, clip.npy, or a folder clip/ of numbered images. PREDICTIONS holds the same
    names (suffixes may differ), or for several samples a folder of videos per name: clip/sample-1.mp4, ... Predictions
    have as many frames as the truth (the given ones are then taken from the truth), or only the predicted ones.

    Args:
        predictions: folder.
        truth: folder.
        given: C, the first frames of the truth that were given.
        limits: of what a video may ask of the machine.

    Raises:
        TrivdError: a video cannot be read, a name is missing on one side, or counts, lengths or sizes do not fit.
    """

    split: Split = "test"
    classes: tuple[str, ...] = ()

    def __init__(self, predictions: Path, truth: Path, given: int, limits: VideoLimits = DEFAULT_LIMITS) -> None:
        self.given = given
        self._limits = limits
        self._truth = _videos(truth)
        self._predictions = _samples(predictions)
        unmatched = sorted(set(self._truth) ^ set(self._predictions))
        if unmatched:
            side = predictions if unmatched[0] in self._truth else truth
            raise TrivdError(
                f"{side} has no {unmatched[0]} ({len(unmatched)} of {len(set(self._truth) | set(self._predictions))} "
                f"names are on one side alone); {predictions} and {truth} must hold the same names."
            )
        self._names = sorted(self._truth)
        counts = {name: len(self._predictions[name]) for name in self._names}
        self.samples = counts[self._names[0]]
        for name, count in counts.items():
            if count != self.samples:
                raise TrivdError(
                    f"{predictions} holds {self.samples} predictions of {self._names[0]} but {count} of {name}; "
                    "give the same number of each."
                )
        self.frames, self._height, self._width = self._shape()
        sizes = f"{self.frames} frames of {self._width} x {self._height}"
        self.report = [f"{truth}: {len(self._names)} videos, {sizes}; {self.samples} predictions each in {predictions}"]

    def __len__(self) -> int:
        return len(self._names)

    @property
    def evaluation_clips(self) -> int:
        return len(self)

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self.evaluation_clip(index)

    def evaluation_clip(self, index: int) -> Clip:
        return Clip(self._read(self._truth[self._names[index]], self.frames), 0)

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`."""

    def futures(self, clips: Clips, samples: int, run: int) -> Iterator[Tensor]:
        """The first `samples` predictions of each clip; see `Forecaster.futures`."""
        for sample in range(samples):
            videos = [self._future(self._predictions[self._names[number]][sample]) for number in clips.numbers]
            yield to_float(torch.from_numpy(np.stack(videos))).to(clips.truth.device)

    def _future(self, path: Path) -> Pixels:
        info = probe(path, self._limits)
        predicted = self.frames - self.given
        if info.frames not in (self.frames, predicted):
            raise TrivdError(
                f"{path} has {info.frames} frames; a prediction has the truth's {self.frames}, or the {predicted} that "
                f"follow {self.given} given ones (--conditioning-frames)."
            )
        if (info.height, info.width) != (self._height, self._width):
            raise TrivdError(
                f"{path} is {info.width} x {info.height} pixels but the truth {self._width} x {self._height}; "
                "videos are compared at one size, so resize one side."
            )
        return self._read(path, info.frames)[-predicted:]

    def _shape(self) -> tuple[int, int, int]:
        """Frames, height and width, the same of all true videos."""
        shapes = {}
        for name in self._names:
            info = probe(self._truth[name], self._limits)
            check_bytes(self._truth[name], info.frames * info.height * info.width * 3, self._limits)
            shapes[info.frames, info.height, info.width] = name
        if len(shapes) > 1:
            (first, a), (second, b) = list(shapes.items())[:2]
            raise TrivdError(
                f"{self._truth[a]} has frames x height x width {first} but {self._truth[b]} {second}; "
                "cut and resize the true videos to one length and size."
            )
        (shape,) = shapes
        if shape[0] <= self.given:
            raise TrivdError(
                f"The true videos have {shape[0]} frames, so --conditioning-frames {self.given} leaves none to score; "
                "give fewer."
            )
        return shape

    def _read(self, path: Path, frames: int) -> Pixels:
        return read_frames(path, 0, frames, 1, short_side=None, channels=3, limits=self._limits)


def _videos(folder: Path) -> dict[str, Path]:
    """Name without suffix -> video, of all videos in a folder."""
    if not folder.is_dir():
        raise TrivdError(f"{folder} is not a folder of videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not is_video(path):
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise TrivdError(f"{folder} holds {found[name].name} and {path.name}; keep one video of each name.")
        found[name] = path
    if not found:
        raise TrivdError(f"{folder} holds no videos; name the folder whose files are one video per clip.")
    return found


def _samples(folder: Path) -> dict[str, list[Path]]:
    """Name -> its predictions: those in the folder of that name, or the one file."""
    if not folder.is_dir():
        raise TrivdError(f"{folder} is not a folder of videos.")
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_video(path)]
    if inner:
        return {path.name: list(_videos(path).values()) for path in inner if not path.name.startswith(".")}
    return {name: [path] for name, path in _videos(folder).items()}
