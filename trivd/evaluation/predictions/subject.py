"""Predictions in files beside the true videos, as both data set and forecaster of an evaluation."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from torch import Tensor

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.clips import Clip
from trivd.data.splits import Split
from trivd.evaluation.predictions.folders import KINDS, Preferred, is_of_predict, predictions_by_name, videos_by_name
from trivd.evaluation.predictions.samples import Samples, find_samples, open_video
from trivd.evaluation.scorer import Clips
from trivd.evaluation.subjects import Progress
from trivd.runtime.distributed import rank, world_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels, to_float


class PredictionFiles:
    """True videos, and one or more predictions of each: a `ClipDataset` of the truth and a `Forecaster` at once.

    TRUTH holds one video per clip: clip.mp4, clip.npy, or a folder clip/ of numbered images. PREDICTIONS holds the same
    names (suffixes may differ), or for several samples a folder per name, with a video of each (clip/sample-1.mp4, ...)
    or one array of all, uint8 (S, T, H, W, C); so does what `trivd predict` writes. Predictions have as many frames as
    the truth (the given ones are then taken from the truth), or only the predicted ones.

    Args:
        predictions: folder.
        truth: folder.
        given: C, the first frames of the truth that were given.
        limits: of what a video may ask of the machine.

    Raises:
        TrivdError: a video cannot be opened, a name is missing on one side, or counts, lengths or sizes disagree.
    """

    split: Split = "test"
    classes: tuple[str, ...] = ()
    fps: float | None = None  # the files are compared frame by frame

    def __init__(self, predictions: Path, truth: Path, given: int, limits: VideoLimits = DEFAULT_LIMITS) -> None:
        self.given = given
        preferred: Preferred = []
        true_paths = videos_by_name(truth, preferred)
        predicted_paths = predictions_by_name(predictions, true_paths, preferred)
        unmatched = sorted(set(true_paths) ^ set(predicted_paths))
        if unmatched:
            side = predictions if unmatched[0] in true_paths else truth
            raise TrivdError(
                f"{side} has no {unmatched[0]} ({len(unmatched)} of {len(set(true_paths) | set(predicted_paths))} "
                f"names are on one side alone); {predictions} and {truth} must hold the same names."
            )
        names = sorted(true_paths)
        with ThreadPoolExecutor() as pool:
            self._truth = list(pool.map(lambda name: open_video(true_paths[name], limits), names))
            self._predictions = list(
                pool.map(lambda name: [find_samples(path, limits) for path in predicted_paths[name]], names)
            )
        self.samples = sum(map(len, self._predictions[0]))
        for name, found in zip(names, self._predictions, strict=True):
            if (count := sum(map(len, found))) != self.samples:
                raise TrivdError(
                    f"{predictions} holds {self.samples} predictions of {names[0]} but {count} of {name}; "
                    "give the same number of each."
                )
        self.frames, self._height, self._width = self._shape()
        factors = {self._factor(samples) for found in self._predictions for samples in found} - {1}
        sizes = f"{self.frames} frames of {self._width} x {self._height}"
        self.summary = [f"{truth}: {len(names)} videos, {sizes}; {self.samples} predictions each in {predictions}"]
        self.notes: list[str] = []  # sentences about which files are scored, and how
        if preferred:
            self.notes.append(
                f"Of several files of one name the most exact is taken ({', '.join(KINDS)}), {len(preferred)} times; "
                f"the first: {preferred[0]}."
            )
        if factors:
            times = " or ".join(map(str, sorted(factors)))
            self.notes.append(
                f"Videos of `trivd predict` in {predictions} are {times} times as large as the truth, and are reduced "
                "to means of squares; futures.npz (trivd predict --npz) is exact."
            )

    def __len__(self) -> int:
        return len(self._truth)

    @property
    def evaluation_clips(self) -> int:
        return len(self)

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self.evaluation_clip(index)

    def evaluation_clip(self, index: int) -> Clip:
        (video,) = self._truth[index]
        return Clip(video, 0)

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`."""

    def futures(self, clips: Clips, samples: int, run: int) -> Iterator[Tensor]:
        """The first `samples` predictions of each clip; see `Forecaster.futures`."""
        with ExitStack() as stack:
            each = [stack.enter_context(closing(self._futures(number))) for number in clips.numbers]
            for _ in range(samples):
                videos = np.stack([next(futures) for futures in each])
                yield to_float(videos).to(clips.truth.device)

    def check_readable(self, progress: Progress) -> None:
        """Read all files to their ends; processes that torchrun started share them.

        Raises:
            TrivdError: one cannot be read.
        """
        own = range(len(self))[rank() :: world_size()]
        progress("reading all files", 0, len(own))
        with ThreadPoolExecutor() as pool:
            for done, _ in enumerate(pool.map(self._check, own), start=1):
                progress("reading all files", done, len(own))

    def _check(self, index: int) -> None:
        self.evaluation_clip(index)
        for _ in self._futures(index):
            pass

    def _futures(self, index: int) -> Generator[Pixels, None, None]:
        """The predicted frames of each sample of a clip."""
        for samples in self._predictions[index]:
            factor = self._factor(samples)
            for video in samples:
                yield _reduced(video[self.given - self.frames :], factor)

    def _factor(self, samples: Samples) -> int:
        """By how much predictions are larger than the truth: 1, or more in files of `trivd predict`.

        Raises:
            TrivdError: their length or size does not fit the truth's.
        """
        info, path = samples.info, samples.path
        predicted = self.frames - self.given
        if info.frames not in (self.frames, predicted):
            raise TrivdError(
                f"{path} has {info.frames} frames; a prediction has the truth's {self.frames}, or the {predicted} that "
                f"follow {self.given} given ones (--conditioning-frames)."
            )
        factor = max(1, info.height // self._height) if is_of_predict(path.parent) else 1
        if (info.height, info.width) != (factor * self._height, factor * self._width):
            raise TrivdError(
                f"{path} is {info.width} x {info.height} pixels but the truth {self._width} x {self._height}; "
                "videos are compared at one size, so resize one side."
            )
        return factor

    def _shape(self) -> tuple[int, int, int]:
        """Frames, height and width, which are the same for all true videos."""
        shapes = {(video.info.frames, video.info.height, video.info.width): video.path for video in self._truth}
        if len(shapes) > 1:
            (first, a), (second, b) = list(shapes.items())[:2]
            raise TrivdError(
                f"{a} has frames x height x width {first} but {b} {second}; "
                "cut and resize the true videos to one length and size."
            )
        (shape,) = shapes
        if shape[0] <= self.given:
            raise TrivdError(
                f"The true videos have {shape[0]} frames, so --conditioning-frames {self.given} leaves none to score; "
                "give fewer."
            )
        return shape


def _reduced(video: Pixels, factor: int) -> Pixels:
    """Frames (T, H, W, C) reduced by a whole factor, as rounded means over squares of pixels."""
    if factor == 1:
        return video
    frames, height, width, channels = video.shape
    squares = video.reshape(frames, height // factor, factor, width // factor, factor, channels)
    reduced: Pixels = squares.mean(axis=(2, 4)).round().astype(np.uint8)
    return reduced
