"""Diversity: the differences between the sampled futures of a clip, with one sample in memory at a time."""

import torch
from torch import Tensor

from trivd.evaluation.metrics.frame_scores import check_frames
from trivd.evaluation.metrics.sharpness import GREY_LEVELS
from trivd.runtime.errors import TrivdError


class Diversity:
    """Distance between the samples of each clip: root of the mean squared difference over pairs and pixels.

    The squared distances of all pairs add up to l times the squared distances from the mean, so a running mean (Welford
    1962) does: no pair is ever looked at, and nothing cancels as it would in a difference of sums.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._mean = torch.zeros(0)  # (B, T, C, H, W)
        self._squares = torch.zeros(0)  # (B, T): squared distances from the mean, averaged over pixels

    def update(self, sample: Tensor) -> None:
        """Add one sample per clip, (B, T, C, H, W) in [-1, 1].

        Raises:
            TrivdError: its shape is not that of the samples before, or values lie outside [-1, 1].
        """
        if sample.dim() != 5 or (self._samples and sample.shape != self._mean.shape):
            raise TrivdError(
                f"Every sample must be (B, T, C, H, W) of the same clips, but {tuple(sample.shape)} came after "
                f"{self._samples} of {tuple(self._mean.shape)}."
            )
        check_frames("Samples", sample)
        sample = sample.float()
        if self._samples == 0:
            self._mean = torch.zeros_like(sample)
            self._squares = torch.zeros(sample.shape[:2], device=sample.device)
        self._samples += 1
        before = sample - self._mean
        self._mean += before / self._samples
        self._squares += (before * (sample - self._mean)).mean(dim=(2, 3, 4))

    def compute(self) -> Tensor:
        """The distance, per clip and frame.

        Returns:
            (B, T), 8-bit grey levels, float32; 0 for samples that are all the same.

        Raises:
            TrivdError: there were fewer than two samples.
        """
        if self._samples < 2:
            raise TrivdError(f"Diversity needs at least 2 samples per clip, but there were {self._samples}.")
        mean_square = 2 * self._squares / (self._samples - 1)  # l squares / (l (l - 1) / 2) pairs
        return mean_square.sqrt() * GREY_LEVELS
