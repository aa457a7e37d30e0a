"""Agreement of predictions with the truth, frame by frame: PSNR, SSIM, and best-of-l (C.1, Figure 5).

All scores treat frames as 8-bit images: 0 is black, and the data range is white minus black.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.evaluation.networks.lpips import Lpips
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import full_float32

DATA_RANGE = 2.0  # of frames in [-1, 1]
RANGE_TOLERANCE = 1e-3  # by which rounding may exceed [-1, 1]
SMALLEST_MSE = DATA_RANGE**2 * 1e-10  # PSNR stops at 100 dB, so that a perfect frame leaves averages finite
SSIM_WINDOW = 11  # pixels
SSIM_SIGMA = 1.5  # pixels
Bounds = Tensor  # (2,), the least and the largest value of some frames
_POSTPONED: ContextVar[list[tuple[str, Bounds]] | None] = ContextVar("postponed checks", default=None)
SSIM_C1, SSIM_C2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2


def psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every frame, 10 log10(range^2 / mean squared error), at most 100 dB.

    Args:
        prediction: frames (B, T, C, H, W) in [-1, 1].
        truth: the same shape and range.

    Returns:
        (B, T), dB, float32; higher is better.

    Raises:
        TrivdError: the shapes differ, or values lie outside [-1, 1].
    """
    _check(prediction, truth)
    error = (prediction.float() - truth.float()).square().mean(dim=(2, 3, 4))  # (B, T)
    return 10 * torch.log10(DATA_RANGE**2 / error.clamp(min=SMALLEST_MSE))


def ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of every frame, averaged over channels and over the windows that lie inside the frame.

    Gaussian windows of 11 pixels, sigma 1.5, k1 = 0.01, k2 = 0.03, population covariance: the settings of Wang et al.
    2004, and the values of `skimage` and `tf.image.ssim`.

    Args:
        prediction: frames (B, T, C, H, W) in [-1, 1], of at least 11 pixels.
        truth: the same shape and range.

    Returns:
        (B, T), in [-1, 1], float32; higher is better.

    Raises:
        TrivdError: the shapes differ, values lie outside [-1, 1], or the frames are smaller than a window.
    """
    _check(prediction, truth)
    check_size(*truth.shape[-2:])
    # SSIM compares means, so black has to be 0: in [-1, 1] a dark and a light frame would have opposite signs.
    x, y = prediction.float() + 1, truth.float() + 1
    down, across = _windows(x.shape[-2], x.device), _windows(x.shape[-1], x.device).T
    with full_float32(x.device):  # variances as differences of moments: fewer bits would leave noise
        mean_x, mean_y, square_x, square_y, product = (down @ image @ across for image in (x, y, x * x, y * y, x * y))
    both = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    contrast = (2 * (product - both) + SSIM_C2) / (square_x + square_y - squares + SSIM_C2)
    return ((2 * both + SSIM_C1) / (squares + SSIM_C1) * contrast).mean(dim=(2, 3, 4))


@cache
def _windows(size: int, device: torch.device) -> Tensor:
    """Gaussian means over all windows inside an axis, as a matrix (size - 10, size): for sizes of frames, a product
    with it is far faster than a convolution of a few channels.
    """
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float32) - SSIM_WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    rows = [F.pad(window / window.sum(), (i, size - SSIM_WINDOW - i)) for i in range(size - SSIM_WINDOW + 1)]
    return torch.stack(rows).to(device)


@dataclass(frozen=True)
class FrameCurves:
    """One score, per clip and predicted frame; every tensor is (B, T)."""

    single: Tensor  # mean over the samples: what one sample scores on average
    best: Tensor  # of each clip's best sample
    mean_prediction: Tensor  # of the average of the samples, which is blurred but close


@dataclass(frozen=True)
class FrameScores:
    """Scores of several samples of the same clips."""

    psnr: FrameCurves  # dB
    ssim: FrameCurves
    lpips: FrameCurves | None  # None without its network


class BestOf:
    """Scores of l samples for one batch of clips, given one sample after the other; keeps scores, never l videos.

    The best sample of a clip is the one whose score, averaged over its frames, is the highest (of LPIPS the lowest); it
    is chosen apart for each score, and its per-frame scores are kept (C.1, Figure 5). `scores` may be read after any
    update: after the first l of them, it is the best of l.
    """

    def __init__(self, truth: Tensor, lpips: Lpips | None = None) -> None:
        """Take what every sample is compared with.

        Args:
            truth: frames (B, T, C, H, W) in [-1, 1].
            lpips: network of LPIPS; None leaves it out.
        """
        self._truth = truth
        self._sum = torch.zeros_like(truth, dtype=torch.float32)  # of the samples
        self._samples = 0
        self._psnr = RunningBest(truth)
        self._ssim = RunningBest(truth)
        self._network = lpips
        self._features = None if lpips is None else lpips.features(truth)
        self._lpips = RunningBest(truth, lowest=True)

    def update(self, sample: Tensor) -> None:
        """Add one sample per clip, (B, T, C, H, W) in [-1, 1].

        Raises:
            TrivdError: its shape is not the truth's, or values lie outside [-1, 1].
        """
        self._psnr.update(psnr(sample, self._truth))
        self._ssim.update(ssim(sample, self._truth))
        if (distance := self._distance(sample)) is not None:
            self._lpips.update(distance)
        self._sum += sample
        self._samples += 1

    def scores(self) -> FrameScores:
        """Scores over the samples seen so far.

        Raises:
            TrivdError: there was none yet.
        """
        if self._samples == 0:
            raise TrivdError("There are no scores without a sample; evaluation.samples must be at least 1.")
        mean = self._sum / self._samples
        distance = self._distance(mean)
        return FrameScores(
            psnr=self._psnr.curves(self._samples, psnr(mean, self._truth)),
            ssim=self._ssim.curves(self._samples, ssim(mean, self._truth)),
            lpips=None if distance is None else self._lpips.curves(self._samples, distance),
        )

    def _distance(self, video: Tensor) -> Tensor | None:
        """LPIPS of every frame, (B, T)."""
        if self._network is None or self._features is None:
            return None
        return self._network.distance(self._network.features(video), self._features).view(video.shape[:2])


class RunningBest:
    """One score: its sum over samples, and that of each clip's best sample.

    Args:
        truth: frames (B, T, ...), for their number.
        lowest: whether lower is better.
    """

    def __init__(self, truth: Tensor, lowest: bool = False) -> None:
        self._sum = torch.zeros(truth.shape[:2], device=truth.device)
        self._sign = -1 if lowest else 1
        self.best = torch.full_like(self._sum, -self._sign * torch.inf)  # (B, T)

    def update(self, score: Tensor) -> None:
        """Add the scores (B, T) of one sample per clip."""
        self._sum += score
        better = self._sign * score.mean(dim=1) > self._sign * self.best.mean(dim=1)  # (B,)
        self.best = torch.where(better[:, None], score, self.best)

    def curves(self, samples: int, mean_prediction: Tensor) -> FrameCurves:
        return FrameCurves(single=self._sum / samples, best=self.best, mean_prediction=mean_prediction)


def _check(prediction: Tensor, truth: Tensor) -> None:
    if prediction.shape != truth.shape or truth.dim() != 5:
        raise TrivdError(
            f"Predictions {tuple(prediction.shape)} and true frames {tuple(truth.shape)} must both be (B, T, C, H, W)."
        )
    check_frames("Predictions", prediction)
    check_frames("True frames", truth)


def check_size(height: int, width: int) -> None:
    """Refuse frames that are smaller than a window of SSIM.

    Raises:
        TrivdError: they are too small.
    """
    if min(height, width) < SSIM_WINDOW:
        raise TrivdError(f"SSIM needs frames of at least {SSIM_WINDOW} pixels, but these are {(height, width)}.")


@contextmanager
def postponed_checks() -> Iterator[list[tuple[str, Bounds]]]:
    """Context in which frames on a GPU are not judged but noted: each verdict would wait for all that came before."""
    noted: list[tuple[str, Bounds]] = []
    token = _POSTPONED.set(noted)
    try:
        yield noted
    finally:
        _POSTPONED.reset(token)


def check_frames(name: str, frames: Tensor) -> None:
    """Refuse frames that are not in [-1, 1].

    Args:
        name: of the frames, as the message begins.
        frames: of any shape.

    Raises:
        TrivdError: values lie outside, or are NaN.
    """
    bounds: Bounds = torch.stack(frames.aminmax())
    postponed = _POSTPONED.get()
    if postponed is None or not frames.is_cuda:
        judge(name, bounds)
    else:
        postponed.append((name, bounds))


def judge(name: str, bounds: Bounds) -> None:
    """Refuse frames of this name whose least and largest value are not in [-1, 1]; see `check_frames`."""
    low, high = bounds.tolist()
    if not (low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # also true of NaN
        raise TrivdError(f"{name} span [{low:.3g}, {high:.3g}]; frame scores need values in [-1, 1].")
