"""Predictions in files beside the true videos, as both data set and forecaster of an evaluation."""

import copy
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import numpy as np
from torch import Tensor

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.clips import Clip, FixedClips
from trivd.data.formats import video as video_reader
from trivd.data.formats.frames import UnreadableVideo
from trivd.data.splits import Split
from trivd.evaluation.predictions.fitting import (
    AS_THEY_ARE,
    Fit,
    check_lengths,
    enlargement,
    predicted_frames,
    reduced,
    squared,
)
from trivd.evaluation.predictions.folders import (
    Preferred,
    contents_digest,
    predictions_by_name,
    preference,
    videos_by_name,
)
from trivd.evaluation.predictions.samples import ARRAY_SUFFIXES, Samples, find_samples, open_video
from trivd.evaluation.readable import MOST_NAMED
from trivd.evaluation.scorer import Clips
from trivd.evaluation.subjects import Progress
from trivd.runtime.distributed import rank, world_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels, to_float

RATE_TOLERANCE = 0.01  # relative, below which two frame rates count as the same


class PredictionFiles(FixedClips):
    """True videos, and one or more predictions of each: a `ClipDataset` of the truth and a `Forecaster` at once.

    TRUTH holds one video per clip: clip.mp4, clip.npy, or a folder clip/ of numbered images. PREDICTIONS holds the same
    names (suffixes may differ), or for several samples a folder per name, with a video of each (clip/sample-1.mp4, ...)
    or one array of all, uint8 (S, T, H, W, C); so does what `trivd predict` writes. Predictions have as many frames as
    the truth (the given ones are then taken from the truth), or only the predicted ones. True videos without a
    prediction are left out, and named; of clips with several samples, as many are taken as all have.

    Args:
        predictions: folder.
        truth: folder.
        given: C, the first frames of the truth that were given.
        limits: of what a video may ask of the machine.
        fit: what is done with other lengths and sizes.
        only: names of the clips that count; None: all that have predictions.

    Raises:
        TrivdError: a video cannot be opened, a prediction has no truth, or lengths or sizes disagree.
    """

    split: Split = "test"
    classes: tuple[str, ...] = ()
    fps: float | None = None  # the files are compared frame by frame

    def __init__(
        self,
        predictions: Path,
        truth: Path,
        given: int,
        limits: VideoLimits = DEFAULT_LIMITS,
        *,
        fit: Fit = AS_THEY_ARE,
        only: Collection[str] | None = None,
    ) -> None:
        self.folder = predictions
        self.truth = truth
        self.given = given
        self.fit = fit
        preferred: Preferred = []
        true_paths = videos_by_name(truth, preferred)
        predicted_paths = predictions_by_name(predictions, true_paths, preferred)
        if unknown := sorted(set(predicted_paths) - set(true_paths)):
            raise TrivdError(
                f"{truth} has no {unknown[0]} ({len(unknown)} of {len(predicted_paths)} names in {predictions} are "
                "there alone); put their true videos there, or move them away."
            )
        names = sorted(predicted_paths if only is None else only)
        with ThreadPoolExecutor() as pool:
            self._truth = list(pool.map(lambda name: open_video(true_paths[name], limits), names))
            self._predictions = list(
                pool.map(lambda name: [find_samples(path, limits) for path in predicted_paths[name]], names)
            )
        counts = [sum(map(len, found)) for found in self._predictions]
        self.samples = min(counts)
        self.frames, self._height, self._width = self._shape()
        factors = {self._factor(samples) for found in self._predictions for samples in found} - {1}
        sizes = f"{self.frames} frames of {self._width} x {self._height}"
        self.summary = [f"{truth}: {len(names)} videos, {sizes}; {self.samples} predictions each in {predictions}"]
        # What is not seen in the line above, since batches that were kept for resuming count for the same files alone.
        used = [video.path for video in self._truth] + [one.path for found in self._predictions for one in found]
        self.summary.append(f"{fit}, files {contents_digest(used)}")
        self.notes: list[str] = []  # sentences about which files are scored, and how
        if missing := sorted(set(true_paths) - set(names)):
            self.notes.append(_left_out(missing, len(true_paths)))
        if max(counts) > self.samples:
            fewest = names[counts.index(self.samples)]
            self.notes.append(
                f"{self.samples} predictions of each clip are scored, as many as there are of {fewest}; others in "
                f"{predictions} have up to {max(counts)}."
            )
        self.notes += preference(preferred)
        if factors:
            times = " or ".join(map(str, sorted(factors)))
            self.notes.append(
                f"Videos of `trivd predict` in {predictions} are {times} times as large as the truth, and are reduced "
                "to means of squares; futures.npz (trivd predict --npz) is exact."
            )
        self.notes += self._of_fit() + self._of_rates()

    def __len__(self) -> int:
        return len(self._truth)

    @property
    def predicted(self) -> int:
        """Predicted frames that are scored."""
        return self.frames - self.given

    def cut_to(self, predicted: int) -> "PredictionFiles":
        """The same with fewer predicted frames, as another model has fewer."""
        shorter = copy.copy(self)
        shorter.frames = self.given + predicted
        shorter.summary = [f"{line}; {shorter.frames} frames count" for line in self.summary]
        return shorter

    def evaluation_clip(self, index: int) -> Clip:
        (video,) = self._truth[index]
        return Clip(self._sized(video[: self.frames], 1), 0)

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`."""

    def futures(self, clips: Clips, samples: int, run: int) -> Iterator[Tensor]:
        """The first `samples` predictions of each clip; see `Forecaster.futures`."""
        if samples > self.samples:
            raise TrivdError(f"{samples} samples are asked for, but there are {self.samples} predictions of each clip.")
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
        true_frames = self._truth[index].info.frames
        for samples in self._predictions[index]:
            factor = self._factor(samples)
            first = samples.info.frames - predicted_frames(samples, true_frames, self.given, self.fit.cut)
            for video in samples:
                yield self._sized(video[first : first + self.predicted], factor)

    def _sized(self, video: Pixels, factor: int) -> Pixels:
        """Frames at the size of the comparison."""
        return reduced(video, factor) if self.fit.resolution is None else squared(video, self.fit.resolution)

    def _factor(self, samples: Samples) -> int:
        """By how much predictions are larger than the truth, where that matters; see `enlargement`."""
        return 1 if self.fit.resolution is not None else enlargement(samples, self._height, self._width)

    def _shape(self) -> tuple[int, int, int]:
        """Frames, height and width that are compared."""
        check_lengths({str(video.path): video.info for video in self._truth}, self.given, self.fit)
        predicted = min(
            min(
                video.info.frames - self.given,
                *(predicted_frames(samples, video.info.frames, self.given, self.fit.cut) for samples in found),
            )
            for video, found in zip(self._truth, self._predictions, strict=True)
        )
        info, side = self._truth[0].info, self.fit.resolution
        return self.given + predicted, side or info.height, side or info.width

    def _of_fit(self) -> list[str]:
        """Sentences about what was cut or resized."""
        notes = []
        if self.fit.cut is not None:
            begin = "with the given frames" if self.fit.cut == "whole" else "after the given frames"
            notes.append(f"All videos are cut to the shortest (--cut): predictions begin {begin}.")
        if self.fit.resolution is not None:
            side = self.fit.resolution
            notes.append(
                f"All frames are resized to {side} pixels at their shorter side, and the middle {side} x {side} is "
                "scored (--resolution)."
            )
        return notes

    def _of_rates(self) -> list[str]:
        """A sentence about frame rates, if the first true video and its prediction have different ones."""
        true_rate, rate = _rate(self._truth[0].path), _rate(self._predictions[0][0].path)
        if true_rate is None or rate is None or abs(rate - true_rate) <= RATE_TOLERANCE * true_rate:
            return []
        return [
            f"Frames are compared one by one, whatever their times: {self._truth[0].path} has {true_rate:.3g} a "
            f"second, {self._predictions[0][0].path} {rate:.3g}."
        ]


def _rate(path: Path) -> float | None:
    """Frames a second of a video file; None for arrays and images, which have no times."""
    if path.is_dir() or path.suffix.lower() in ARRAY_SUFFIXES:
        return None
    with suppress(UnreadableVideo):
        return video_reader.times(path, DEFAULT_LIMITS).rate
    return None


def _left_out(names: Sequence[str], count: int) -> str:
    named = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return f"Left out: {len(names)} of {count} true videos, as not all folders of predictions have them: {named}."
