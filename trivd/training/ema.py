"""Exponential moving average of the generator's weights (E.2)."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

RAMP = 0.05  # longest half-life, as a share of the steps so far (StyleGAN2-ADA's ema_rampup)


class Ema:
    """Exponential moving average of a module's parameters, starting with their values at position `start`.

    With a half-life it starts at once: short at first, it soon forgets the untrained weights.

    Args:
        decay: gamma, the weight of the past.
        start: position in the run, in steps, whose weights are the first that count.
        halflife: steps in which the weight of the past halves, in place of the two others; 0: they count.
    """

    def __init__(self, decay: float, start: int, halflife: float = 0.0) -> None:
        self.start = start if not halflife else 1
        self._decay = decay
        self._halflife = halflife
        self.weights: dict[str, Tensor] = {}  # empty until the average has started

    def decay(self, step: int) -> float:
        """Weight of the past in the average after `step` generator updates."""
        if not self._halflife:
            return self._decay
        return float(0.5 ** (1 / min(self._halflife, RAMP * step)))

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, position: float) -> None:
        """Include the weights after `step` generator updates, at a position of `TrainingConfig.position`."""
        parameters = dict(module.named_parameters())
        if not self.weights:
            if position < self.start:
                return
            self.weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            return
        average = get_ema_multi_avg_fn(self.decay(step))
        average(list(self.weights.values()), list(parameters.values()), None)

    @torch.no_grad()
    def apply_to(self, module: nn.Module) -> None:
        """Copy the average into `module`, which keeps its own weights if the average has not started."""
        for name, parameter in module.named_parameters():
            if name in self.weights:
                parameter.copy_(self.weights[name])
