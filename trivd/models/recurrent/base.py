"""What all recurrent units share: their interface, and gates that are evaluated as one convolution."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import SNConv, compute_dtype

Activation = Literal["relu", "tanh"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh}

# One time step: (t, state (B, S, H, W)) -> next state, and warping weights (B, L, k^2, H, W) of units that warp.
Step = Callable[[int, Tensor], tuple[Tensor, Tensor | None]]


class RecurrentUnit(nn.Module, ABC):
    """A convolutional recurrent unit; all are interchangeable.

    Args:
        input_channels: of x.
        hidden_channels: of the state, which is also the output.
    """

    def __init__(self, input_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.hidden_channels = hidden_channels

    @abstractmethod
    def bind(self, x: Tensor, initial: Tensor) -> Step:
        """Do all that needs no recursion for x (T, B, C, H, W), once; return the function that makes one step."""

    def forward(
        self, x: Tensor, initial: Tensor, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """Run over time.

        Args:
            x: inputs (T, B, input_channels, H, W). Steps that are all the same (an expanded tensor) are read once.
            initial: state before the first step (B, hidden_channels, H, W).
            return_weights: also return the warping weights (T, B, L, k^2, H, W), or None for units that do not warp.

        Returns:
            all states (T, B, hidden_channels, H, W), and the weights if asked.
        """
        states, weights = self.unroll(x, initial, return_weights)
        return (states, weights) if return_weights else states

    def unroll(self, x: Tensor, initial: Tensor, keep_weights: bool) -> tuple[Tensor, Tensor | None]:
        """`forward`, always as a pair; the weights are None unless kept."""
        state = initial.to(compute_dtype(x))
        step = self.bind(x, state)
        states, weights = [], []
        for t in range(x.shape[0]):
            state, step_weights = step(t, state)
            states.append(state)
            if keep_weights and step_weights is not None:
                weights.append(step_weights)
        # cat, not stack: it keeps the channels_last layout
        outputs = torch.cat(states).unflatten(0, (len(states), -1))
        return outputs, torch.stack(weights) if weights else None


class Gates(nn.Module):
    """Convolutions of [state; x] that read the same two tensors, each with its own spectral norm.

    They are evaluated as one convolution, split by linearity: the x half for all time steps at once, the other
    half at each step.

    Args:
        state_channels: of the state, or of what is read in its place.
        input_channels: of x.
        outputs: name -> channels.
        kernel_size: odd.
    """

    def __init__(self, state_channels: int, input_channels: int, outputs: Mapping[str, int], kernel_size: int) -> None:
        super().__init__()
        self.state_channels = state_channels
        self.outputs = dict(outputs)
        self.padding = kernel_size // 2
        self.convolutions = nn.ModuleDict(
            {name: SNConv(state_channels + input_channels, channels, kernel_size) for name, channels in outputs.items()}
        )

    def bind(self, x: Tensor) -> Callable[[int, Tensor], dict[str, Tensor]]:
        """A function (t, state (B, S, H, W)) -> {name: pre-activation (B, channels, H, W)}, for x (T, B, C, H, W)."""
        convolutions = [self.convolutions[name] for name in self.outputs]
        weight = torch.cat([convolution.normalized_weight() for convolution in convolutions])  # type: ignore[operator]
        bias = torch.cat([convolution.bias for convolution in convolutions])  # type: ignore[misc]
        dtype = compute_dtype(x)
        weight = weight.to(dtype)
        state_weight = weight[:, : self.state_channels]
        input_weight = weight[:, self.state_channels :]
        constant = x.stride(0) == 0  # every step is the same (the first stage of G)
        steps = x[:1] if constant else x
        from_input = F.conv2d(steps.flatten(0, 1).to(dtype), input_weight, bias.to(dtype), padding=self.padding)
        # Unbound once: indexing at each step would make its backward write a gradient of all steps each time.
        by_step = from_input.unflatten(0, (steps.shape[0], -1)).unbind(0)  # T or 1 of (B, sum of channels, H, W)

        def evaluate(t: int, state: Tensor) -> dict[str, Tensor]:
            both = F.conv2d(state, state_weight, padding=self.padding) + by_step[0 if constant else t]
            return dict(zip(self.outputs, both.split(list(self.outputs.values()), dim=1), strict=True))

        return evaluate
