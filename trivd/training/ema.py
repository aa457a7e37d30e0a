"""Exponential moving average of the generator's weights (E.2)."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Exponential moving average of a module's parameters, starting with their values after step `start`.

    Args:
        decay: gamma, the weight of the past.
        start: the first step whose weights count.
    """

    def __init__(self, decay: float, start: int) -> None:
        self.start = start
        self._average = get_ema_multi_avg_fn(decay)
        self.weights: dict[str, Tensor] = {}  # empty until the average has started

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Include the weights after `step` generator updates."""
        if step < self.start:
            return
        parameters = dict(module.named_parameters())
        if not self.weights:
            self.weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            return
        self._average(list(self.weights.values()), list(parameters.values()), None)

    @torch.no_grad()
    def apply_to(self, module: nn.Module) -> None:
        """Copy the average into `module`, which keeps its own weights if the average has not started."""
        for name, parameter in module.named_parameters():
            if name in self.weights:
                parameter.copy_(self.weights[name])
