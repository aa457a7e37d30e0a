"""The small parts of recurrent units, one pass over memory each: activated gates, Eq 5 and 10, short softmaxes."""

import ctypes
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trivd.ops.cpu.library import MOST_TAPS, kernel, threads

PartActivation = Literal["identity", "relu", "sigmoid", "tanh"]
CODES: dict[PartActivation, int] = {"identity": 0, "relu": 1, "sigmoid": 2, "tanh": 3}  # as in kernels/pointwise.h


class Parts:
    """How the channels of a convolution's or linear layer's output are divided, and the activation of each part."""

    def __init__(self, channels: Sequence[int], activations: Sequence[PartActivation]) -> None:
        self.channels = list(channels)
        self.activations = list(activations)
        array = ctypes.c_int64 * len(self.channels)
        self.c_channels = array(*self.channels)
        self.c_activations = array(*(CODES[activation] for activation in activations))

    def apply(self, raw: Tensor, given: Tensor | None) -> tuple[Tensor, ...]:
        """The activated parts of raw + given.

        Args:
            raw: (B, C, H, W) or (B, C), C the sum of all parts' channels.
            given: of the same shape, or None for zeros.
        """
        compiled = kernel("activate", raw) if given is None else kernel("activate", raw, given)
        if compiled is None:
            both = raw if given is None else raw + given
            parts = both.split(self.channels, dim=1)
            return tuple(activate(part, name) for part, name in zip(parts, self.activations, strict=True))
        raw = _rows(raw)
        given = None if given is None else _rows(given)
        outputs = tuple(_empty(raw, channels) for channels in self.channels)
        compiled(
            raw.data_ptr(),
            None if given is None else given.data_ptr(),
            _pointers(outputs),
            self.c_channels,
            self.c_activations,
            len(outputs),
            raw.numel() // raw.shape[1],
            threads(raw.numel()),
        )
        return outputs

    def backward(self, gradients: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> Tensor:
        """Gradient of `raw`, and of `given`, from those of the parts (None: zero) and the activated parts."""
        present = [gradient for gradient in gradients if gradient is not None]
        compiled = kernel("activate_backward", *outputs, *present)
        if compiled is None:
            return torch.cat(
                [
                    torch.zeros_like(output) if gradient is None else _activate_backward(gradient, output, name)
                    for gradient, output, name in zip(gradients, outputs, self.activations, strict=True)
                ],
                dim=1,
            )
        rows = [None if gradient is None else _rows(gradient) for gradient in gradients]
        outputs = [_rows(output) for output in outputs]
        result = _empty(outputs[0], sum(self.channels))
        compiled(
            _pointers(rows),
            _pointers(outputs),
            result.data_ptr(),
            self.c_channels,
            self.c_activations,
            len(outputs),
            result.numel() // result.shape[1],
            threads(result.numel()),
        )
        return result


def mix(content: Tensor, past: Tensor, gate: Tensor) -> Tensor:
    """gate * past + (1 - gate) * content (Eq 5, 10, 22), all of one shape."""
    mixed: Tensor = _Mix.apply(content, past, gate)
    return mixed


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, content: Tensor, past: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(content, past, gate)
        compiled = kernel("mix", content, past, gate)
        if compiled is None:
            return torch.lerp(content, past, gate)
        content, past, gate = _rows(content), _rows(past), _rows(gate)
        result = torch.empty_like(content)
        pointers = (tensor.data_ptr() for tensor in (content, past, gate, result))
        compiled(*pointers, result.numel(), threads(result.numel()))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        content, past, gate = ctx.saved_tensors
        compiled = kernel("mix_backward", gradient, content, past, gate)
        if compiled is None:
            for_past = gradient * gate
            return gradient - for_past, for_past, gradient * (past - content)
        gradient, content, past, gate = (_rows(tensor) for tensor in (gradient, content, past, gate))
        results = torch.empty_like(content), torch.empty_like(content), torch.empty_like(content)
        pointers = (tensor.data_ptr() for tensor in (gradient, content, past, gate, *results))
        compiled(*pointers, content.numel(), threads(content.numel()))
        return results


def softmax(x: Tensor) -> Tensor:
    """Over the last dimension, which is short: PyTorch's own is made for long ones."""
    result: Tensor = _Softmax.apply(x)
    return result


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        width = x.shape[-1]
        compiled = kernel("softmax", x) if width <= MOST_TAPS else None
        if compiled is None:
            result = torch.softmax(x, -1).to(x.dtype)
        else:
            x = x.contiguous()
            result = torch.empty_like(x)
            compiled(x.data_ptr(), result.data_ptr(), x.numel() // width, width, threads(x.numel()))
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        width = y.shape[-1]
        compiled = kernel("softmax_backward", gradient, y) if width <= MOST_TAPS else None
        if compiled is None:
            weighted = gradient * y
            return weighted - y * weighted.sum(-1, keepdim=True)
        gradient, y = gradient.contiguous(), y.contiguous()
        result = torch.empty_like(y)
        pointers = (tensor.data_ptr() for tensor in (gradient, y, result))
        compiled(*pointers, y.numel() // width, width, threads(y.numel()))
        return result


def activate(x: Tensor, activation: PartActivation) -> Tensor:
    """The activation, plainly."""
    if activation == "relu":
        return F.relu(x)
    if activation == "sigmoid":
        return torch.sigmoid(x)
    return torch.tanh(x) if activation == "tanh" else x


def _activate_backward(gradient: Tensor, y: Tensor, activation: PartActivation) -> Tensor:
    """Gradient of the input of an activation whose result is y."""
    if activation == "relu":
        return gradient * (y > 0)
    if activation == "sigmoid":
        return gradient * (y * (1 - y))
    return gradient * (1 - y * y) if activation == "tanh" else gradient


def _rows(x: Tensor) -> Tensor:
    """x with its channels innermost in memory, as kernels need it: a copy only if they are not."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def _empty(like: Tensor, channels: int) -> Tensor:
    """Of the size of `like` but for its channels, these innermost."""
    layout = torch.channels_last if like.dim() == 4 else torch.contiguous_format
    size = (like.shape[0], channels, *like.shape[2:])
    return torch.empty(size, dtype=like.dtype, memory_format=layout)


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
