"""Softmax over a short last dimension, for which PyTorch's own is not made."""

from typing import Any

import torch
from torch import Tensor

from trivd.ops.cpu.library import MOST_TAPS, Kernel, kernel, launch
from trivd.ops.operator import Operator


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last dimension, (..., n) -> (..., n)."""
    result: Tensor = _softmax(x)
    return result


# The plain form


def plain_softmax(x: Tensor) -> Tensor:
    return torch.softmax(x.contiguous(), -1).to(x.dtype)  # autocast computes it in float32


def plain_softmax_backward(gradient: Tensor, y: Tensor) -> Tensor:
    """Gradient of x, from that of y = softmax(x)."""
    weighted = gradient.contiguous() * y
    return weighted - y * weighted.sum(-1, keepdim=True)


_softmax = Operator("softmax", plain_softmax, lambda x: x.new_empty(x.shape))
_softmax_backward = Operator("softmax_backward", plain_softmax_backward, lambda gradient, y: y.new_empty(y.shape))

# CPU


def _fitting_kernel(name: str, *tensors: Tensor) -> Kernel | None:
    return kernel(name, *tensors) if tensors[0].shape[-1] <= MOST_TAPS else None


@_softmax.kernel("CPU")
def _(x: Tensor) -> Tensor:
    compiled = _fitting_kernel("softmax", x)
    if compiled is None:
        return plain_softmax(x)
    x = x.contiguous()
    result, width = torch.empty_like(x), x.shape[-1]
    launch(compiled, x, result, x.numel() // width, width, elements=x.numel())
    return result


@_softmax_backward.kernel("CPU")
def _(gradient: Tensor, y: Tensor) -> Tensor:
    compiled = _fitting_kernel("softmax_backward", gradient, y)
    if compiled is None:
        return plain_softmax_backward(gradient, y)
    gradient, y = gradient.contiguous(), y.contiguous()
    result, width = torch.empty_like(y), y.shape[-1]
    launch(compiled, gradient, y, result, y.numel() // width, width, elements=y.numel())
    return result


# The derivative


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    result: Tensor = _softmax_backward(gradient, *ctx.saved_tensors)
    return result


_softmax.derivative(_save, _backward)
