"""Measurements of each clip: the truth, a copy of its last given frame, and the futures of a forecaster.

Results are columns, one row per clip, so that batches of clips can be computed apart, kept, and put together again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.data.clips import ClipDataset
from trivd.data.loader import evaluation_batch
from trivd.evaluation.collecting import Columns
from trivd.evaluation.fixed import FixedGenerator
from trivd.evaluation.metrics.diversity import Diversity
from trivd.evaluation.metrics.frame_scores import BestOf, FrameCurves, psnr, ssim
from trivd.evaluation.metrics.sharpness import motion_magnitude, sharpness
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.networks.lpips import Lpips
from trivd.models.generator import Generator
from trivd.models.latents import draw_latents, seeded_generator
from trivd.runtime.graphs import Record
from trivd.runtime.hardware import to_device
from trivd.runtime.pixels import to_float, to_pixels

BEST_OF = (10, 100)  # best-of-10 and best-of-100 (Figure 5), where so many futures are drawn

THUMBNAIL = 4  # pixels


@dataclass(frozen=True)
class Clips:
    """Some held-out clips, ready to be predicted."""

    numbers: Sequence[int]  # in the data set; the same clip always has the same one
    conditioning: Tensor  # (B, C, channels, H, W) in [-1, 1]
    truth: Tensor  # (B, T, channels, H, W) in [-1, 1]
    labels: Tensor  # (B,)

    def last_frame_repeated(self) -> Tensor:
        """Copies of the last given frame, (B, T, channels, H, W): the baseline (D.3)."""
        return self.conditioning[:, -1:].expand_as(self.truth)


class Forecaster(Protocol):
    """A source of predictions: a model, or files that any model wrote."""

    def prepare(self, run: int) -> None:
        """Prepare for the futures of a run; all processes call it together."""
        ...

    def futures(self, clips: Clips, samples: int, run: int) -> Iterator[Tensor]:
        """`samples` futures of every clip, one (B, T, channels, H, W) in [-1, 1] after the other.

        The same clip, sample and run always give the same future; another run gives others.
        """
        ...


def clip_latents(clip: int, samples: int, dim: int, seed: int, truncation: float | None) -> Tensor:
    """z (samples, dim) of one clip; it depends on nothing else, so it is the same in every batch."""
    return draw_latents(samples, dim, seeded_generator(seed, clip), truncation)


class ModelForecaster:
    """A generator in evaluation mode, with standing statistics.

    Args:
        generator: on its device.
        dtype: of convolutions.
        seed: of z in the first run; the following runs take the following numbers.
        truncation: of z.
        record: how CUDA graphs are recorded, see `trivd.runtime.graphs.recorder`; None: without graphs.
    """

    def __init__(
        self,
        generator: Generator,
        dtype: torch.dtype,
        seed: int,
        truncation: float | None,
        record: Record | None = None,
    ) -> None:
        self.generator = generator
        self.dtype = dtype
        self.seed = seed
        self.truncation = truncation
        self._record = record
        self._fixed: FixedGenerator | None = None  # from the first futures on

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`. The generator changes here alone."""
        self._fixed = None

    @torch.no_grad()
    def futures(self, clips: Clips, samples: int, run: int) -> Iterator[Tensor]:
        """See `Forecaster.futures`."""
        dim, device = self.generator.config.latent_dim, clips.truth.device
        latents = torch.stack(
            [clip_latents(number, samples, dim, self.seed + run, self.truncation) for number in clips.numbers], dim=1
        )  # (samples, B, latent_dim)
        if self._fixed is None:
            self._fixed = FixedGenerator(self.generator, self.dtype, self._record)
        states = self._fixed.encode(clips.conditioning)
        for z in to_device(latents, device):
            yield self._fixed.decode(states, z, clips.labels).video


class Scorer:
    """Scores of held-out clips; each method returns the columns of some clips by their numbers.

    Args:
        held_out: where the clips come from.
        given: C, how many of their frames are given.
        network: feature network; None collects no features.
        count_conditioning: whether the given frames count in the features.
        device: of all computation.
        lpips: network of LPIPS; None leaves it out.
    """

    def __init__(
        self,
        held_out: ClipDataset,
        given: int,
        network: FeatureNetwork | None,
        count_conditioning: bool,
        device: torch.device,
        *,
        lpips: Lpips | None = None,
    ) -> None:
        self.held_out = held_out
        self.given = given
        self.network = network
        self.count_conditioning = count_conditioning
        self.device = device
        self.lpips = lpips

    def load(self, numbers: Sequence[int]) -> Clips:
        """The clips on the device."""
        batch = evaluation_batch(self.held_out, numbers)
        video = to_float(to_device(batch.video, self.device))
        return Clips(numbers, video[:, : self.given], video[:, self.given :], to_device(batch.labels, self.device))

    @torch.no_grad()
    def reference(self, numbers: Sequence[int]) -> Columns:
        """Columns that need no model: appearance and features of the truth, all scores of copying the last frame."""
        clips = self.load(numbers)
        copies = self._scores(clips, clips.last_frame_repeated())
        return _named("truth", self._appearance(clips, clips.truth)) | _named("copy", copies)

    @torch.no_grad()
    def single(self, forecaster: Forecaster, run: int, numbers: Sequence[int]) -> Columns:
        """All scores of one future per clip: psnr, ssim, sharpness, motion (B, T), thumbnails, and features."""
        clips = self.load(numbers)
        return _named("model", self._scores(clips, next(forecaster.futures(clips, 1, run))))

    @torch.no_grad()
    def several(
        self, forecaster: Forecaster, run: int, samples: int, counts: Sequence[int], numbers: Sequence[int]
    ) -> Columns:
        """Frame scores of `samples` futures per clip, each (B, T), and of copying; never keeps the futures.

        For "psnr", "ssim" and, with its network, "lpips-...": ".../copy", ".../single", ".../mean", and ".../best L"
        for each L of `counts`; from two samples on "diversity" too.
        """
        clips = self.load(numbers)
        copied, best = BestOf(clips.truth, self.lpips), BestOf(clips.truth, self.lpips)
        diversity = Diversity()
        copied.update(clips.last_frame_repeated())
        columns: Columns = {}
        for drawn, video in enumerate(forecaster.futures(clips, samples, run), start=1):
            best.update(video)
            diversity.update(video)
            if drawn in counts:
                columns |= {f"{name}/best {drawn}": curves.best for name, curves in self._curves(best).items()}
        copy = self._curves(copied)
        for name, curves in self._curves(best).items():
            columns |= {
                f"{name}/copy": copy[name].single,
                f"{name}/single": curves.single,
                f"{name}/mean": curves.mean_prediction,
            }
        if samples > 1:
            columns["diversity"] = diversity.compute()
        return columns

    def _curves(self, best: BestOf) -> dict[str, FrameCurves]:
        """Each score by its name among columns."""
        scores = best.scores()
        curves = {"psnr": scores.psnr, "ssim": scores.ssim}
        if self.lpips is not None and scores.lpips is not None:
            curves[self.lpips.score] = scores.lpips
        return curves

    def _scores(self, clips: Clips, video: Tensor) -> Columns:
        agreement = {"psnr": psnr(video, clips.truth), "ssim": ssim(video, clips.truth)}
        return agreement | self._appearance(clips, video)

    def _appearance(self, clips: Clips, video: Tensor) -> Columns:
        """Columns that do not depend on the truth: sharpness, motion, thumbnails, and features."""
        columns = {
            "sharpness": sharpness(video),
            "motion": motion_magnitude(video, clips.conditioning[:, -1]),
            "thumbnail": thumbnails(video),
        }
        return columns | self._features(clips, video)

    def _features(self, clips: Clips, future: Tensor) -> Columns:
        if self.network is None:
            return {}
        whole = torch.cat([clips.conditioning, future], dim=1) if self.count_conditioning else future
        features = self.network(to_pixels(whole))
        return {"embedding": features.embedding, "logits": features.logits}


def thumbnails(video: Tensor) -> Tensor:
    """The last frames of videos (B, T, channels, H, W), reduced to (B, channels, 4, 4)."""
    return F.adaptive_avg_pool2d(video[:, -1], THUMBNAIL).contiguous()


def spread(model: Tensor, truth: Tensor) -> float:
    """Standard deviation of thumbnails over clips, relative to that of the true ones.

    About 1 for a good model, 0 for one that gives the same future to all clips.

    Args:
        model: thumbnails (clips, channels, 4, 4) of predictions, of at least two clips.
        truth: of the same clips.
    """
    return float(model.std(dim=0).mean() / truth.std(dim=0).mean())


def best_of_counts(samples: int, marks: Sequence[int] = BEST_OF) -> tuple[int, ...]:
    """The counts l for which best-of-l is reported: the marks, those of Figure 5, below `samples`, and `samples`."""
    return tuple(sorted({count for count in marks if count < samples} | ({samples} if samples > 1 else set())))


def _named(prefix: str, columns: Columns) -> Columns:
    return {f"{prefix}/{name}": column for name, column in columns.items()}
