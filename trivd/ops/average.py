"""Average pooling of a discriminator's blocks, together with the ReLU that reads the same features."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.cuda import library
from trivd.ops.operator import Operator
from trivd.ops.precision import exact_dtype
from trivd.ops.residual import LAYOUTS, innermost


def average_pool(x: Tensor, time: bool = False) -> Tensor:
    """Average over 2 x 2 pixels: (..., H, W) -> (..., H/2, W/2), for 4 or 5 dimensions.

    Args:
        x: features (B, C, [T,] H, W).
        time: whether pairs of frames are averaged too: T' = T // 2, the last of an odd number left out, at least 1.
    """
    if library.fused(x, "average"):
        pooled: Tensor = _average_pool(x, False, _over_time(x, time))[0]
        return pooled
    if x.dim() == 4:
        return F.avg_pool2d(x, 2)
    frames = x.transpose(1, 2)  # pooled as pictures: autocast would have avg_pool3d run in float32
    if time and x.shape[2] > 1:
        first, second = frames[:, : x.shape[2] // 2 * 2].unflatten(1, (-1, 2)).unbind(2)
        frames = (first + second) / 2
    return F.avg_pool2d(frames.flatten(0, 1), 2).unflatten(0, frames.shape[:2]).transpose(1, 2)


def relu_and_average_pool(x: Tensor, time: bool = False) -> tuple[Tensor, Tensor]:
    """ReLU of x, and `average_pool` of x itself: on a GPU in one pass, and so are their gradients."""
    if not library.fused(x, "average"):
        return F.relu(x), average_pool(x, time)
    activated, pooled = _average_pool(x, True, _over_time(x, time))
    return activated, pooled


def _over_time(x: Tensor, time: bool) -> bool:
    return time and x.dim() == 5 and x.shape[2] > 1


# The plain form


def plain_average_pool(x: Tensor, relu: bool, time: bool) -> list[Tensor]:
    """ReLU of x if asked for, and averages over 2 x 2 pixels, or 2 x 2 x 2 with `time`; in float32 at least."""
    exact = x.to(exact_dtype(x))
    window = (2 if time else 1, 2, 2)
    pooled = F.avg_pool2d(exact, 2) if x.dim() == 4 else F.avg_pool3d(exact, window)
    pooled = innermost(pooled.to(x.dtype))
    return [innermost(F.relu(x)), pooled] if relu else [pooled]


def plain_average_pool_backward(
    gradient: Tensor, activated: Tensor | None, for_activated: Tensor | None, size: list[int], time: bool
) -> Tensor:
    """Gradient of x.

    Args:
        gradient: of the averages.
        activated: ReLU of x, or None.
        for_activated: its gradient, or None.
        size: of x after its channels: ([T,] H, W).
        time: whether pairs of frames were averaged.
    """
    exact = gradient.to(exact_dtype(gradient)) / (8 if time else 4)
    if time:
        exact = exact.repeat_interleave(2, 2)
    exact = exact.repeat_interleave(2, -2).repeat_interleave(2, -1)
    missing = [whole - there for whole, there in zip(size, exact.shape[2:], strict=True)]
    exact = F.pad(exact, [side for count in reversed(missing) for side in (0, count)])
    if activated is not None and for_activated is not None:
        exact = exact + torch.where(activated > 0, for_activated, 0)
    return innermost(exact.to(gradient.dtype))


def halved(x: Tensor, time: bool) -> Tensor:
    """An empty tensor for the averages of x."""
    *outer, height, width = x.shape
    if time:
        outer[2] //= 2
    size = (*outer, height // 2, width // 2)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=LAYOUTS[x.dim()])


def whole(gradient: Tensor, size: list[int]) -> Tensor:
    """An empty tensor for the gradient of x."""
    shape = (*gradient.shape[:2], *size)
    layout = LAYOUTS[gradient.dim()]
    return torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout)


def _fake(x: Tensor, relu: bool, time: bool) -> list[Tensor]:
    pooled = halved(x, time)
    return [torch.empty_like(x, memory_format=LAYOUTS[x.dim()]), pooled] if relu else [pooled]


_average_pool = Operator("average_pool", plain_average_pool, _fake)
_average_pool_backward = Operator(
    "average_pool_backward",
    plain_average_pool_backward,
    lambda gradient, activated, for_activated, size, time: whole(gradient, size),
)

# The derivative


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, ctx.relu, ctx.time = inputs
    ctx.size = list(x.shape[2:])
    ctx.save_for_backward(*(output[:1] if ctx.relu else []))


def _backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
    activated, for_activated = (ctx.saved_tensors[0], gradients[0]) if ctx.relu else (None, None)
    return _average_pool_backward(gradients[-1], activated, for_activated, ctx.size, ctx.time), None, None


_average_pool.derivative(_save, _backward)
