"""The pointwise parts of recurrent units, one pass over memory each: activated gates, and Eq 5, 10, 22."""

import ctypes
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.cpu.library import kernel, launch
from trivd.ops.operator import Operator, channels_innermost, empty, save_inputs

PartActivation = Literal["identity", "relu", "sigmoid", "tanh"]
ACTIVATIONS: tuple[PartActivation, ...] = get_args(PartActivation)  # their numbers, as in cpu/kernels/pointwise.h


class Parts:
    """The gates that are evaluated as one layer: how its channels are divided, and the activation of each part.

    Args:
        channels: of each part.
        activations: of each.
        padding: further channels of the layer, that belong to no part.
    """

    def __init__(self, channels: Sequence[int], activations: Sequence[PartActivation], padding: int = 0) -> None:
        self.channels = list(channels)
        self.padding = padding
        self.width = sum(channels) + padding
        self.activations = [ACTIVATIONS.index(activation) for activation in activations]
        self.unchanged = list(activations) == ["identity"] and not padding  # the layer's output is the only part

    def activate(self, raw: Tensor, given: Tensor | None) -> list[Tensor]:
        """The activated parts of raw + given.

        Args:
            raw: (B, C, H, W) or (B, C), C the sum of all parts' channels and the padding.
            given: of the same shape, or None for zeros.

        Raises:
            ValueError: the shapes are others.
        """
        if raw.shape[1] != self.width or (given is not None and given.shape != raw.shape):
            both = f"{tuple(raw.shape)} and {None if given is None else tuple(given.shape)}"
            raise ValueError(f"Parts of {self.width} channels cannot be taken of {both}.")
        if self.unchanged and given is None:
            return [channels_innermost(raw)]
        parts: list[Tensor] = _activate(raw, given, self.channels, self.activations)
        return parts

    def backward(self, gradients: Sequence[Tensor | None], parts: Sequence[Tensor]) -> Tensor:
        """Gradient of `raw`, and of `given`, from those of the activated parts (None: zero) and these."""
        if self.unchanged and gradients[0] is not None:
            return channels_innermost(gradients[0])
        gradients, parts, activations = list(gradients), list(parts), self.activations
        if self.padding:  # a part without a gradient, whose values are not read
            gradients, activations = [*gradients, None], [*activations, ACTIVATIONS.index("identity")]
            parts = [*parts, empty(parts[0], self.padding)]
        gradient: Tensor = _activate_backward(gradients, parts, activations)
        return gradient


def activate(x: Tensor, activation: PartActivation) -> Tensor:
    """One activation by its name."""
    if activation == "relu":
        return F.relu(x)
    if activation == "sigmoid":
        return torch.sigmoid(x)
    return torch.tanh(x) if activation == "tanh" else x


def mix(content: Tensor, past: Tensor, gate: Tensor) -> Tensor:
    """gate * past + (1 - gate) * content (Eq 5, 10, 22), all of one shape; raises ValueError if they are not."""
    if not content.shape == past.shape == gate.shape:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (content, past, gate))
        raise ValueError(f"Content, past and gate have the shapes {shapes}; they must be equal.")
    mixed: Tensor = _mix(content, past, gate)
    return mixed


# The plain form


def plain_activate(
    raw: Tensor, given: Tensor | None, channels: Sequence[int], activations: Sequence[int]
) -> list[Tensor]:
    parts = (raw if given is None else raw + given)[:, : sum(channels)].split(list(channels), dim=1)
    names = [ACTIVATIONS[code] for code in activations]
    # A copy of what no activation changes: operators give no views of their arguments.
    activated = [p.clone() if n == "identity" else activate(p, n) for p, n in zip(parts, names, strict=True)]
    return [channels_innermost(part) for part in activated]


def plain_activate_backward(
    gradients: Sequence[Tensor | None], parts: Sequence[Tensor], activations: Sequence[int]
) -> Tensor:
    inputs = []
    for gradient, y, activation in zip(gradients, parts, activations, strict=True):
        if gradient is None:
            inputs.append(torch.zeros_like(y))
            continue
        slope = (None, y > 0, y * (1 - y), 1 - y * y)[activation]
        inputs.append(gradient if slope is None else gradient * slope)
    return channels_innermost(torch.cat(inputs, dim=1))


def plain_mix(content: Tensor, past: Tensor, gate: Tensor) -> Tensor:
    return channels_innermost(torch.lerp(content, past, gate))


def plain_mix_backward(gradient: Tensor, content: Tensor, past: Tensor, gate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of content, past and gate."""
    for_past = gradient * gate
    results = gradient - for_past, for_past, gradient * (past - content)
    return tuple(map(channels_innermost, results))  # type: ignore[return-value]


_activate = Operator(
    "activate", plain_activate, lambda raw, given, channels, activations: [empty(raw, c) for c in channels]
)
_activate_backward = Operator(
    "activate_backward",
    plain_activate_backward,
    lambda gradients, parts, activations: empty(parts[0], sum(part.shape[1] for part in parts)),
)
_mix = Operator("mix", plain_mix, lambda content, past, gate: empty(content))
_mix_backward = Operator(
    "mix_backward",
    plain_mix_backward,
    lambda gradient, content, past, gate: tuple(map(empty, (content, past, gate))),
)

# CPU


def _integers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


@_activate.kernel("CPU")
def _(raw: Tensor, given: Tensor | None, channels: Sequence[int], activations: Sequence[int]) -> list[Tensor]:
    compiled = kernel("activate", raw, given)
    if compiled is None:
        return plain_activate(raw, given, channels, activations)
    raw = channels_innermost(raw)
    given = None if given is None else channels_innermost(given)
    parts = [empty(raw, count) for count in channels]
    rows = raw.numel() // raw.shape[1]
    sizes = _integers(channels), _integers(activations), len(parts), rows
    launch(compiled, raw, given, parts, *sizes, elements=raw.numel())
    return parts


@_activate_backward.kernel("CPU")
def _(gradients: Sequence[Tensor | None], parts: Sequence[Tensor], activations: Sequence[int]) -> Tensor:
    compiled = kernel("activate_backward", *gradients, *parts)
    if compiled is None:
        return plain_activate_backward(gradients, parts, activations)
    gradients = [None if gradient is None else channels_innermost(gradient) for gradient in gradients]
    parts = [channels_innermost(part) for part in parts]
    channels = [part.shape[1] for part in parts]
    result = empty(parts[0], sum(channels))
    rows = result.numel() // result.shape[1]
    sizes = _integers(channels), _integers(activations), len(parts), rows
    launch(compiled, gradients, parts, result, *sizes, elements=result.numel())
    return result


@_mix.kernel("CPU")
def _(content: Tensor, past: Tensor, gate: Tensor) -> Tensor:
    compiled = kernel("mix", content, past, gate)
    if compiled is None:
        return plain_mix(content, past, gate)
    content, past, gate = map(channels_innermost, (content, past, gate))
    result = torch.empty_like(content)
    launch(compiled, content, past, gate, result, result.numel(), elements=result.numel())
    return result


@_mix_backward.kernel("CPU")
def _(gradient: Tensor, content: Tensor, past: Tensor, gate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    compiled = kernel("mix_backward", gradient, content, past, gate)
    if compiled is None:
        return plain_mix_backward(gradient, content, past, gate)
    gradient, content, past, gate = map(channels_innermost, (gradient, content, past, gate))
    results = torch.empty_like(content), torch.empty_like(content), torch.empty_like(content)
    launch(compiled, gradient, content, past, gate, *results, content.numel(), elements=content.numel())
    return results


# The derivatives


def _save_parts(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*output)
    ctx.set_materialize_grads(False)
    ctx.activations, ctx.has_given = inputs[3], inputs[1] is not None


def _parts_backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, Tensor | None, None, None]:
    gradient = _activate_backward(gradients, ctx.saved_tensors, ctx.activations)
    return gradient, gradient if ctx.has_given else None, None, None


def _mixed_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = _mix_backward(gradient, *ctx.saved_tensors)
    return gradients


_activate.derivative(_save_parts, _parts_backward)
_mix.derivative(save_inputs, _mixed_backward)
