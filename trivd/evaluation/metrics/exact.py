"""What our torchmetrics metrics share: sums in float64 whatever surrounds them, and frames in one form."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.evaluation.metrics.frame_scores import check_frames
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_pixels

try:
    from torchmetrics import Metric
    from torchmetrics.utilities.distributed import gather_all_tensors
except ImportError as error:
    raise TrivdError("Metrics of training loops need torchmetrics; install trivd[torchmetrics].") from error


class ExactMetric(Metric):
    """A metric whose states are small sums, of one size however many clips were seen, on any number of processes.

    States stay in float64, whatever the metric or a module around it is converted to; conversions only move it, and a
    network in it, to another device. A network stays in evaluation mode.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=_gather_padded)

    def add_sum(self, *names: str) -> None:
        """Add states that begin as 0 and take the shape of what is added to them; processes add them up."""
        for name in names:
            self.add_state(name, torch.zeros((), dtype=torch.float64), "sum")

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, in which a network's normalisation does not depend on the batch."""
        super().train(False)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> Self:
        device = fn(torch.zeros(1, device=self.device)).device
        super()._apply(lambda tensor: tensor.to(device), exclude_state)
        return self


def float_frames(name: str, video: Tensor) -> Tensor:
    """Frames (B, T, C, H, W), uint8 or of any floating type in [-1, 1], as float32 in [-1, 1].

    Raises:
        TrivdError: another type or shape, or values outside of the range.
    """
    _check(name, video)
    return video.float() / 127.5 - 1 if video.dtype == torch.uint8 else video.float()


def pixels(name: str, video: Tensor) -> Tensor:
    """The same frames as uint8 (B, T, H, W, C), floats rounded as a video file would round them.

    Raises:
        TrivdError: see `float_frames`.
    """
    _check(name, video)
    return video.movedim(2, -1).contiguous() if video.dtype == torch.uint8 else to_pixels(video)


def _check(name: str, video: Tensor) -> None:
    if not (video.dtype == torch.uint8 or video.is_floating_point()):
        raise TrivdError(f"{name} must be uint8, or floats in [-1, 1], not {str(video.dtype).removeprefix('torch.')}.")
    if video.dim() != 5 or video.shape[2] not in (1, 3):
        raise TrivdError(f"{name} must be (B, T, 1 or 3, H, W), not {tuple(video.shape)}.")
    if video.is_floating_point():
        check_frames(name, video)


def _gather_padded(state: Tensor, group: Any = None) -> list[Tensor]:
    """The state of every process; zeros make them of one shape, as they add nothing to a sum or a covariance."""
    gathered = gather_all_tensors(torch.atleast_1d(state), group)
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in gathered), strict=True)]
    padded = []
    for tensor in gathered:
        missing = [after for size, wanted in zip(tensor.shape, shape, strict=True) for after in (wanted - size, 0)]
        padded.append(F.pad(tensor, missing[::-1]))  # from the last dimension to the first: (before, after)
    return padded
