"""The pooled features from which f predicts its kernels: adaptive max-pooling and ReLU (F.1)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.cuda import library
from trivd.ops.operator import Operator, channels_innermost


def pooled_features(x: Tensor, size: int) -> Tensor:
    """ReLU of the largest value in each of size x size windows, (B, C, H, W) -> (B, C size size).

    The windows are those of adaptive pooling, which overlap where `size` does not divide H or W.
    """
    if not library.fused(x, "pool"):
        return F.relu(F.adaptive_max_pool2d(x, size).flatten(1))
    pooled: Tensor = _pooled_features(x, size)[0]
    return pooled


# The plain form of what a GPU runs as one kernel each way


def plain_pooled_features(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The features, and the place y W + x of each in its image (B, size size, C), -1 where the ReLU gave zero."""
    pooled, places = F.adaptive_max_pool2d(x, size, return_indices=True)
    places = torch.where(pooled > 0, places, -1).to(torch.int32)
    return F.relu(pooled).flatten(1).contiguous(), places.flatten(2).mT.contiguous()


def plain_pooled_features_backward(gradient: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Gradient of x (B, C, H, W): each goes to the first place of its window's largest value."""
    at = places.mT.long()  # (B, C, size size)
    passed = torch.where(at < 0, 0, gradient.reshape(at.shape))
    for_x = passed.new_zeros(*at.shape[:2], height * width).scatter_add_(2, at.clamp(min=0), passed)
    return channels_innermost(for_x.unflatten(2, (height, width)))


def _fake(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    batch, channels = x.shape[:2]
    return x.new_empty(batch, channels * size**2), x.new_empty(batch, size**2, channels, dtype=torch.int32)


def _fake_backward(gradient: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    batch, _, channels = places.shape
    return gradient.new_empty(batch, height, width, channels).movedim(3, 1)


_pooled_features = Operator("pooled_features", plain_pooled_features, _fake)
_pooled_features_backward = Operator("pooled_features_backward", plain_pooled_features_backward, _fake_backward)

# The derivative


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # no zeros for places
    ctx.size = inputs[0].shape[2:]


def _backward(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, None]:
    if gradient is None:
        return None, None
    return _pooled_features_backward(gradient, *ctx.saved_tensors, *ctx.size), None


_pooled_features.derivative(_save, _backward)
