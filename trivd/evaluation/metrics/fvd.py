"""FVD as a torchmetrics metric: for training loops of other projects, over any number of processes."""

from typing import Any

import torch
from torch import Tensor

from trivd.evaluation.metrics.exact import ExactMetric, pixels
from trivd.evaluation.metrics.frechet import FrechetStatistics
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.runtime.errors import TrivdError

PREDICTION, TRUTH = "prediction", "truth"


class FrechetVideoDistance(ExactMetric):
    """Fréchet distance between predicted and true clips in the feature space of a network (Unterthiner et al. 2018).

    States are the moments of both sets, see `trivd.evaluation.metrics.frechet.FrechetStatistics`. `forward` is refused:
    the distance of one batch says nothing.

    Args:
        network: gives the features. A `torch.nn.Module` moves with the metric, and keeps its precision.
        reset_truth: whether `reset` forgets the true clips too, which need not be seen again where it does not.
    """

    higher_is_better = False
    full_state_update = True
    plot_lower_bound = 0.0

    def __init__(self, network: FeatureNetwork, reset_truth: bool = True) -> None:
        super().__init__()
        self.network = network
        self.reset_truth = reset_truth
        for kind in (PREDICTION, TRUTH):  # the first axis of each state counts processes: 1 until synchronised
            self.add_state(f"{kind}_count", torch.zeros(1, dtype=torch.int64), _join)
            self.add_state(f"{kind}_mean", torch.zeros(1, 0, dtype=torch.float64), _join)
            self.add_state(f"{kind}_factor", torch.zeros(1, 0, 0, dtype=torch.float64), _join)

    def update(self, prediction: Tensor | None, truth: Tensor | None) -> None:
        """Add clips, (B, T, C, H, W) of uint8, or floats in [-1, 1], on the device of the network.

        Args:
            prediction: predicted clips, the given frames too if they shall count; None: none.
            truth: true clips, any number; None: none.

        Raises:
            TrivdError: the clips have another type, shape or range, the network cannot take them, or its features are
                not finite.
        """
        for kind, video in ((PREDICTION, prediction), (TRUTH, truth)):
            if video is not None:
                statistics = self._statistics(kind)
                statistics.update(self.network(pixels(f"The {kind}", video)).embedding)
                setattr(self, f"{kind}_count", torch.tensor([statistics.count], device=self.device))
                setattr(self, f"{kind}_mean", statistics.mean[None].to(self.device))
                setattr(self, f"{kind}_factor", statistics.factor[None].to(self.device))

    def compute(self) -> Tensor:
        """The distance, a float64 scalar.

        Raises:
            TrivdError: there were fewer than two predicted or two true clips.
        """
        distance = self._statistics(TRUTH).distance(self._statistics(PREDICTION))
        return torch.tensor(distance, dtype=torch.float64, device=self.device)

    def reset(self) -> None:
        """Forget the predicted clips and, with `reset_truth`, the true ones."""
        truth = {name: getattr(self, name) for name in self._defaults if name.startswith(f"{TRUTH}_")}
        super().reset()
        if not self.reset_truth:
            for name, state in truth.items():
                setattr(self, name, state)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refused, before anything is changed.

        Raises:
            TrivdError: always.
        """
        raise TrivdError("One batch has no Fréchet distance worth naming: call update, and compute at the end.")

    def _statistics(self, kind: str) -> FrechetStatistics:
        states = (getattr(self, f"{kind}_{name}").cpu() for name in ("count", "mean", "factor"))
        return FrechetStatistics.merge(
            FrechetStatistics(int(count), mean, factor) for count, mean, factor in zip(*states, strict=True)
        )


def _join(stacked: Tensor) -> Tensor:
    """One axis of processes, from (gathered, 1, ...)."""
    return stacked.flatten(0, 1)
