"""The interface of all recurrent units, and gates that are evaluated as one convolution.

To bind a unit, its gates or a layer is to compute, once, everything that does not change over time; what `bind` returns
is the function of one time step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import SNConv
from trivd.models.spectral_norm import normalized
from trivd.ops.cuda import library
from trivd.ops.gates import PartActivation, Parts
from trivd.ops.precision import compute_dtype
from trivd.ops.unroll import Recursion, joint_convolutions, missing_outputs, with_zeros

Activation = Literal["relu", "tanh"]

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
    def bind(self, x: Tensor, initial: Tensor, recursion: Recursion, keep_weights: bool) -> Step:
        """The function of one step, for inputs x (T, B, C, H, W).

        Layers that each step uses are shared through `recursion`, which begins after this. Warping weights need not be
        given unless they are to be kept.
        """

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
        if torch.compiler.is_dynamo_compiling() and torch.is_grad_enabled():
            eager: tuple[Tensor, Tensor | None] = self._eagerly(x, initial, keep_weights)
            return eager
        recursion = Recursion(compute_dtype(x))
        state = initial.to(recursion.dtype).contiguous(memory_format=torch.channels_last)
        with normalized(self):
            step = self.bind(x, state, recursion, keep_weights)
        state = recursion.begin(state)
        states, weights = [], []
        for t in range(x.shape[0]):
            state, step_weights = step(t, state)
            states.append(state)
            if keep_weights and step_weights is not None:
                weights.append(step_weights)
        # cat, not stack: it keeps the channels_last layout
        outputs = torch.cat(states).unflatten(0, (len(states), -1))
        return outputs, torch.stack(weights) if weights else None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _eagerly(self, x: Tensor, initial: Tensor, keep_weights: bool) -> tuple[Tensor, Tensor | None]:
        """`unroll` outside of the compiled graph, in which the records of a recursion would lose gradients."""
        return self.unroll(x, initial, keep_weights)


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
        self.sources = [state_channels, input_channels]
        self.outputs = dict(outputs)
        self.padding = kernel_size // 2
        self.convolutions = nn.ModuleDict(
            {name: SNConv(state_channels + input_channels, channels, kernel_size) for name, channels in outputs.items()}
        )

    def bind(
        self, x: Tensor, recursion: Recursion, activations: Mapping[str, PartActivation]
    ) -> Callable[[int, Tensor], dict[str, Tensor]]:
        """The function (t, state (B, S, H, W)) -> {name: gate (B, channels, H, W)}, for inputs x (T, B, C, H, W).

        Args:
            x: inputs of all steps.
            recursion: in which the state's half is shared.
            activations: by name; gates that are not named have none.
        """
        # A GPU starts one convolution sooner than two, and fills up odd channels.
        together = [list(self.outputs)] if library.fused(x, "gates") else joint_convolutions(self.outputs)
        groups = [self._bind_group(names, x, recursion, activations) for names in together]

        def evaluate(t: int, state: Tensor) -> dict[str, Tensor]:
            return {name: gate for group in groups for name, gate in group(t, state)}

        return evaluate

    def _bind_group(
        self, names: list[str], x: Tensor, recursion: Recursion, activations: Mapping[str, PartActivation]
    ) -> Callable[[int, Tensor], Iterable[tuple[str, Tensor]]]:
        dtype = recursion.dtype
        convolutions = [self._convolution(name) for name in names]
        # split, not slices: its backward writes each gradient once
        halves = [layer.normalized_weight().to(dtype).split(self.sources, dim=1) for layer in convolutions]
        channels = [self.outputs[name] for name in names]
        missing = missing_outputs(x, sum(channels))
        state_weight, input_weight = (
            with_zeros(torch.cat(half), missing).contiguous(memory_format=torch.channels_last)
            for half in zip(*halves, strict=True)
        )
        bias = torch.cat([layer.bias for layer in convolutions if layer.bias is not None]).to(dtype)
        bias = with_zeros(bias, missing)
        constant = x.stride(0) == 0  # every step is the same (the first stage of G)
        steps = x[:1] if constant else x
        from_input = F.conv2d(steps.flatten(0, 1).to(dtype), input_weight, bias, padding=self.padding)
        parts = Parts(channels, [activations.get(name, "identity") for name in names], missing)
        shared = recursion.share(state_weight, None, parts, from_input)
        return lambda t, state: zip(names, shared(state, 0 if constant else t), strict=True)

    def _convolution(self, name: str) -> SNConv:
        layer = self.convolutions[name]
        assert isinstance(layer, SNConv)
        return layer
