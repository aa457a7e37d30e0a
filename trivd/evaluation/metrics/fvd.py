"""FVD as a torchmetrics metric: for training loops of other projects, over any number of processes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.evaluation.metrics.frechet import FrechetStatistics
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.runtime.errors import TrivdError

try:
    from torchmetrics import Metric
    from torchmetrics.utilities.distributed import gather_all_tensors
except ImportError as error:
    raise TrivdError("FVD as a metric of training loops needs torchmetrics; install trivd[torchmetrics].") from error


class FrechetVideoDistance(Metric):
    """Fréchet distance between real and generated clips in the feature space of a network (Unterthiner et al. 2018).

    Statistics stay in float64, whatever the metric or a module around it is converted to; conversions only move it and
    the network to another device. `forward` is refused: a batch is real or generated, so it has no distance of its own.

    Args:
        network: gives the features. A `torch.nn.Module` moves with the metric, and keeps its precision.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = True
    plot_lower_bound = 0.0

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__(dist_sync_fn=_gather_padded)
        self.network = network
        for kind in ("real", "generated"):  # the first axis of each state counts processes: 1 until synchronised
            self.add_state(f"{kind}_count", torch.zeros(1, dtype=torch.int64), _join)
            self.add_state(f"{kind}_mean", torch.zeros(1, 0, dtype=torch.float64), _join)
            self.add_state(f"{kind}_factor", torch.zeros(1, 0, 0, dtype=torch.float64), _join)

    def update(self, video: Tensor, real: bool) -> None:
        """Add clips (B, T, H, W, C) of uint8.

        Args:
            video: on the device of the network.
            real: whether they are real or generated.

        Raises:
            TrivdError: `real` is neither True nor False, the network cannot take the clips, or its features are not
                finite.
        """
        if not isinstance(real, bool | np.bool_):  # "fake" would count as real
            raise TrivdError(f"real is {real!r}; it must be True for real clips or False for generated ones.")
        kind = "real" if real else "generated"
        statistics = self._statistics(kind)
        statistics.update(self.network(video).embedding)
        setattr(self, f"{kind}_count", torch.tensor([statistics.count], device=self.device))
        setattr(self, f"{kind}_mean", statistics.mean[None].to(self.device))
        setattr(self, f"{kind}_factor", statistics.factor[None].to(self.device))

    def compute(self) -> Tensor:
        """The distance, a float64 scalar.

        Raises:
            TrivdError: there were fewer than two real or two generated clips.
        """
        distance = self._statistics("real").distance(self._statistics("generated"))
        return torch.tensor(distance, dtype=torch.float64, device=self.device)

    def reset(self, reset_real_features: bool = True) -> None:
        """Forget the generated clips, and the real ones unless told to keep them."""
        real = {name: getattr(self, name) for name in self._defaults if name.startswith("real_")}
        super().reset()
        if not reset_real_features:
            for name, state in real.items():
                setattr(self, name, state)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refused, before anything is changed.

        Raises:
            TrivdError: always.
        """
        raise TrivdError(
            "One batch is real or generated and has no Fréchet distance: call update, and compute at the end."
        )

    def train(self, mode: bool = True) -> "FrechetVideoDistance":
        """Stay in evaluation mode, in which the network's normalisation does not depend on the batch."""
        super().train(False)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> "FrechetVideoDistance":
        device = fn(torch.zeros(1, device=self.device)).device
        super()._apply(lambda tensor: tensor.to(device), exclude_state)
        return self

    def _statistics(self, kind: str) -> FrechetStatistics:
        states = (getattr(self, f"{kind}_{name}").cpu() for name in ("count", "mean", "factor"))
        return FrechetStatistics.merge(
            FrechetStatistics(int(count), mean, factor) for count, mean, factor in zip(*states, strict=True)
        )


def _gather_padded(state: Tensor, group: Any = None) -> list[Tensor]:
    """The state of every process; zeros make them of one shape, as a row of zeros adds nothing to a covariance."""
    gathered = gather_all_tensors(state, group)
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in gathered), strict=True)]
    padded = []
    for tensor in gathered:
        missing = [after for size, wanted in zip(tensor.shape, shape, strict=True) for after in (wanted - size, 0)]
        padded.append(F.pad(tensor, missing[::-1]))  # from the last dimension to the first: (before, after)
    return padded


def _join(stacked: Tensor) -> Tensor:
    """One axis of processes, from (gathered, 1, ...)."""
    return stacked.flatten(0, 1)
