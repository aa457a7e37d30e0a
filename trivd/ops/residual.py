"""What follows the convolutions of residual blocks: biases, sums of two branches, nearest x2 upsampling, and ReLU.

On a GPU each such group is one pass over memory, and so is its derivative with that of the biases. There, a convolution
leaves its bias to what follows; on a CPU it adds it itself, and the rest is PyTorch's own operations.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.cuda import library
from trivd.ops.operator import Operator
from trivd.ops.precision import exact_dtype

# Features (B, C, [T,] H, W), and the bias (C,) that is still to be added to them; None: no bias is left to add.
Unbiased = tuple[Tensor, Tensor | None]

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # channels innermost, by number of dimensions


def leaves_bias(x: Tensor) -> bool:
    """Whether a convolution of x is to leave its bias to the functions below."""
    return library.fused(x, "residual")


def biased(features: Unbiased) -> Tensor:
    """Features with their bias."""
    x, bias = features
    if bias is None:
        return x
    result: Tensor = _residual(x, None, bias, None, False, False)
    return result


def relu(features: Unbiased) -> Tensor:
    """ReLU of features with their bias."""
    x, bias = features
    if bias is None:
        return F.relu(x)
    result: Tensor = _residual(x, None, bias, None, True, False)
    return result


def add(features: Unbiased, skip: Unbiased, upsample: bool = False) -> Tensor:
    """The sum of a block's two branches.

    Args:
        features: (B, C, [T,] H, W).
        skip: of the same shape, or with `upsample` (B, C, H/2, W/2), nearest x2 upsampled before it is added.
        upsample: see there.

    Raises:
        ValueError: the shapes do not belong together.
    """
    x, other = features[0], skip[0]
    expected = (*other.shape[:2], 2 * other.shape[2], 2 * other.shape[3]) if upsample else other.shape
    if x.shape != expected:
        raise ValueError(f"Branches of shapes {tuple(x.shape)} and {tuple(expected)} cannot be added.")
    if not library.fused(x, "residual"):
        return x + (F.interpolate(other, scale_factor=2.0, mode="nearest") if upsample else other)
    result: Tensor = _residual(x, other, features[1], skip[1], False, upsample)
    return result


def innermost(x: Tensor) -> Tensor:
    """x (B, C, [T,] H, W) with its channels innermost in memory: a copy only if they are not."""
    return x.contiguous(memory_format=LAYOUTS[x.dim()])


# The plain form


def plain_residual(
    x: Tensor, other: Tensor | None, bias: Tensor | None, other_bias: Tensor | None, relu: bool, upsampled: bool
) -> Tensor:
    """x + bias + other_bias + other, this one upsampled or not, and ReLU or none; computed in float32 at least."""
    total = x.to(exact_dtype(x), copy=True)
    for vector in (bias, other_bias):
        if vector is not None:
            total += vector.view(-1, *[1] * (x.dim() - 2))
    if other is not None:
        total += F.interpolate(other, scale_factor=2.0, mode="nearest") if upsampled else other
    return innermost((F.relu(total) if relu else total).to(x.dtype))


def plain_residual_backward(gradient: Tensor, result: Tensor | None, bias: bool, upsampled: bool) -> list[Tensor]:
    """Gradients, as far as they are not the result's own.

    Args:
        gradient: of the result.
        result: where ReLU has been applied, else None.
        bias: whether the gradient of a bias is asked for; both have the same.
        upsampled: whether `other` was upsampled.

    Returns:
        x's if there is a ReLU; other's if it was upsampled; the bias's, in float32 at least, if asked for.
    """
    results = []
    if result is not None:
        gradient = torch.where(result > 0, gradient, 0)
        results.append(innermost(gradient))
    exact = gradient.to(exact_dtype(gradient))
    if upsampled:
        results.append(innermost((4 * F.avg_pool2d(exact, 2)).to(gradient.dtype)))
    if bias:
        results.append(exact.sum([0, *range(2, gradient.dim())]))
    return results


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=LAYOUTS[x.dim()])


def _fake_backward(gradient: Tensor, result: Tensor | None, bias: bool, upsampled: bool) -> list[Tensor]:
    results = [] if result is None else [_like(gradient)]
    if upsampled:
        results.append(_like(gradient[:, :, ::2, ::2]))
    return [*results, gradient.new_empty(gradient.shape[1], dtype=exact_dtype(gradient))] if bias else results


_residual = Operator("residual", plain_residual, lambda x, other, bias, other_bias, relu, upsampled: _like(x))
_residual_backward = Operator("residual_backward", plain_residual_backward, _fake_backward)

# The derivative


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *added, ctx.relu, ctx.upsampled = inputs
    ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in added]
    ctx.save_for_backward(*([output] if ctx.relu else []))


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    _, *needed = ctx.needs_input_grad[:4]
    bias, upsampled = any(needed[1:]), needed[0] and ctx.upsampled
    result = ctx.saved_tensors[0] if ctx.relu else None
    found = _residual_backward(gradient, result, bias, upsampled) if ctx.relu or bias or upsampled else []
    for_bias = found.pop() if bias else None
    for_other = found.pop() if upsampled else None
    for_x = found.pop() if ctx.relu else gradient
    gradients = for_x if for_other is None else for_other, for_bias, for_bias
    return (
        for_x,
        *(
            value.to(dtype) if wanted and value is not None else None
            for value, dtype, wanted in zip(gradients, ctx.dtypes, needed, strict=True)
        ),
        None,
        None,
    )


_residual.derivative(_save, _backward)
