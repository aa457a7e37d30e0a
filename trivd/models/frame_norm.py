"""Batch normalisation with statistics of its own for each time step, its affine maps, and the ReLU that follows."""

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trivd.models.layers import SNLinear, exact_dtype, full_precision
from trivd.ops.cpu.library import kernel, threads
from trivd.runtime.distributed import all_reduce_mean, world_size

# Scale and offset of a normalisation, each (B, C) or (C,).
Affine = tuple[Tensor, Tensor]


def _per_channel(values: Tensor) -> Tensor:
    """(T, C) or (T, B, C), to broadcast over features (T, B, C, H, W)."""
    return (values.unsqueeze(1) if values.dim() == 2 else values)[..., None, None]


class _Frames(ctypes.Structure):
    """Sizes of features, as in kernels/normalize.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("frames", "samples", "positions", "channels"))

    @classmethod
    def of(cls, x: Tensor) -> "_Frames":
        """Of x (T, B, C, H, W)."""
        steps, batch, channels, height, width = x.shape
        return cls(steps, batch, height * width, channels)


def _rows(x: Tensor) -> Tensor:
    """x (T, B, C, H, W) with its channels innermost in memory, as kernels need it: a copy only if they are not."""
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (T, C) of features (T, B, C, H, W) over batch and space."""
    compiled = kernel("statistics", x)
    if compiled is None:
        features = x.to(exact_dtype(x))
        mean = features.mean(dim=(1, 3, 4))
        return mean, (features - _per_channel(mean)).square().mean(dim=(1, 3, 4))
    x = _rows(x)
    mean, variance = (torch.empty(x.shape[0], x.shape[2], dtype=exact_dtype(x)) for _ in range(2))
    pointers = (tensor.data_ptr() for tensor in (x, mean, variance))
    compiled(*pointers, ctypes.byref(_Frames.of(x)), threads(x.numel()))
    return mean, variance


def _over_processes(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (T, C) of the features of all processes, from those of each; all have as many."""
    if world_size() == 1:
        return mean, variance
    first = mean.double()
    moments = all_reduce_mean(torch.stack([first, variance + first.square()]))  # in float64: no digits are lost
    return moments[0].to(mean.dtype), (moments[1] - moments[0].square()).to(mean.dtype)


def _normalize(x: Tensor, mean: Tensor, rstd: Tensor, affine: Affine) -> Tensor:
    """relu((x - mean) rstd scale + offset) of features (T, B, C, H, W), in their type."""
    scale, offset = (values.to(mean.dtype).expand(x.shape[1:3]) for values in affine)  # (B, C)
    gain = scale * rstd.unsqueeze(1)  # (T, B, C)
    compiled = kernel("normalize", x)
    if compiled is None:
        centred = x.to(mean.dtype) - _per_channel(mean)
        return torch.addcmul(offset[..., None, None], centred, _per_channel(gain)).relu_().to(x.dtype)
    x, offset = _rows(x), offset.contiguous()
    y = torch.empty_like(x)
    pointers = (tensor.data_ptr() for tensor in (x, mean, gain, offset, y))
    compiled(*pointers, ctypes.byref(_Frames.of(x)), threads(x.numel()))
    return y


class _Normalize(torch.autograd.Function):
    """Normalisation and ReLU, in fewer passes over the features than autograd's.

    With xhat = (x - mean) rstd and the gradient g of what the ReLU reads, the gradient of x is
    rstd (scale g - <scale g> - xhat <scale g xhat>), <> the mean over batch and space; both means follow from the
    gradients of offset and scale, and are left out if mean and rstd are not those of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, rstd: Tensor, own: bool, scale: Tensor, offset: Tensor) -> Tensor:
        """x (T, B, C, H, W), mean and rstd (T, C), whether they are of x, scale and offset (B, C) or (C,)."""
        y = _normalize(x, mean, rstd, (scale, offset))
        # x, not the normalised features: it is half as large in bfloat16.
        ctx.save_for_backward(x, y, mean, rstd, scale)
        ctx.own = own
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, mean, rstd, scale = ctx.saved_tensors
        scales = scale.to(mean.dtype).expand(x.shape[1:3])  # (B, C)
        for_scale, for_offset = _affine_gradients(gradient, x, y, mean, rstd)  # (T, B, C)
        means = mean.new_zeros(2, *mean.shape)  # <scale g> and <scale g xhat>, each (T, C)
        if ctx.own:
            sums = torch.stack([(scales * for_offset).sum(dim=1), (scales * for_scale).sum(dim=1)])
            means = all_reduce_mean(sums / (x.shape[1] * x.shape[3] * x.shape[4]))
        for_x = _feature_gradient(gradient, x, y, mean, rstd, scales, *means)
        return for_x, None, None, None, for_scale.sum_to_size(scale.shape), for_offset.sum_to_size(scale.shape)


def _affine_gradients(gradient: Tensor, x: Tensor, y: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of scale and offset for each time step and sample (T, B, C)."""
    compiled = kernel("normalize_sums", gradient, x, y)
    if compiled is None:
        passed = torch.ops.aten.threshold_backward(gradient, y, 0).to(mean.dtype)  # ReLU's
        normalized = (x.to(mean.dtype) - _per_channel(mean)) * _per_channel(rstd)
        return (passed * normalized).sum(dim=(3, 4)), passed.sum(dim=(3, 4))
    gradient, x, y = _rows(gradient), _rows(x), _rows(y)
    for_scale, for_offset = (torch.empty(x.shape[:3], dtype=mean.dtype) for _ in range(2))
    pointers = (tensor.data_ptr() for tensor in (gradient, x, y, mean, rstd, for_scale, for_offset))
    compiled(*pointers, ctypes.byref(_Frames.of(x)), threads(x.numel()))
    return for_scale, for_offset


def _feature_gradient(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    rstd: Tensor,
    scale: Tensor,
    shared: Tensor,
    projection: Tensor,
) -> Tensor:
    """rstd (scale g - shared - xhat projection), with scale (B, C), shared and projection (T, C)."""
    compiled = kernel("normalize_backward", gradient, x, y)
    if compiled is None:
        passed = torch.ops.aten.threshold_backward(gradient, y, 0).to(mean.dtype)
        normalized = (x.to(mean.dtype) - _per_channel(mean)) * _per_channel(rstd)
        for_x = passed * scale[..., None, None] - _per_channel(shared) - normalized * _per_channel(projection)
        return (for_x * _per_channel(rstd)).to(x.dtype)
    gradient, x, y, scale = _rows(gradient), _rows(x), _rows(y), scale.contiguous()
    for_x = torch.empty_like(x)
    tensors = (gradient, x, y, mean, rstd, scale, shared.contiguous(), projection.contiguous(), for_x)
    compiled(*(tensor.data_ptr() for tensor in tensors), ctypes.byref(_Frames.of(x)), threads(x.numel()))
    return for_x


class FrameNorm(nn.Module):
    """Batch normalisation with statistics of its own for each time step (A), and the ReLU that follows it everywhere.

    Statistics are taken over batch and space, never over time. In evaluation they are the standing statistics,
    averages over many batches (E.2), which are NaN until they have been collected.

    Args:
        frames: T, the number of time steps.
        channels: of the features.
        condition_dim: size of the conditioning vector that scale and offset are an affine map of; None: both learned.
    """

    standing_mean: Tensor
    standing_variance: Tensor
    epsilon = 1e-5  # BigGAN's

    def __init__(self, frames: int, channels: int, condition_dim: int | None) -> None:
        super().__init__()
        self.register_buffer("standing_mean", torch.full((frames, channels), float("nan")))
        self.register_buffer("standing_variance", torch.full((frames, channels), float("nan")))
        self.collecting = False  # averaging standing statistics, see `collect`
        self.collected = 0
        self.scale: nn.Module | nn.Parameter
        self.offset: nn.Module | nn.Parameter
        if condition_dim is None:
            self.scale = nn.Parameter(torch.ones(channels))
            self.offset = nn.Parameter(torch.zeros(channels))
        else:
            self.scale = SNLinear(condition_dim, channels)  # predicts scale - 1
            self.offset = SNLinear(condition_dim, channels)

    def collect(self, on: bool) -> None:
        """Start to average the statistics of every batch afresh, or stop, and average over all processes."""
        self.collecting = on
        if on:
            self.collected = 0
        elif world_size() > 1:
            counts = torch.tensor(float(self.collected), device=self.standing_mean.device)
            share = self.collected / float(all_reduce_mean(counts))
            for standing in (self.standing_mean, self.standing_variance):
                standing.copy_(all_reduce_mean(standing.nan_to_num() * share))  # NaN: this process had no batch

    def forward(self, x: Tensor, affine: Affine) -> Tensor:
        """(T, B, C, H, W), its entry of `affine_maps` -> (T, B, C, H, W)."""
        own = self.training or self.collecting
        with torch.no_grad():
            mean, variance = _statistics(x) if own else (self.standing_mean, self.standing_variance)
            if self.training:
                mean, variance = _over_processes(mean, variance)
            rstd = torch.rsqrt(variance + self.epsilon)
        y: Tensor = _Normalize.apply(x, mean, rstd, own, *affine)
        if self.collecting:
            self.collected += 1
            for standing, batch in ((self.standing_mean, mean), (self.standing_variance, variance)):
                standing.copy_(batch if self.collected == 1 else torch.lerp(standing, batch, 1 / self.collected))
        return y


def affine_maps(module: nn.Module, condition: Tensor) -> dict[FrameNorm, Affine]:
    """Scale and offset of every FrameNorm in `module`; those that depend on condition (B, dim) as one linear map."""
    norms = [norm for norm in module.modules() if isinstance(norm, FrameNorm)]
    layers = [layer for norm in norms for layer in norm.children() if isinstance(layer, SNLinear)]
    predicted: Iterator[Tensor] = iter(())
    if layers:
        with full_precision(condition):
            weight = torch.cat([layer.normalized_weight() for layer in layers])
            bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])  # all have one
            predicted = iter(F.linear(condition, weight, bias).split([len(layer.weight) for layer in layers], dim=1))
    maps: dict[FrameNorm, Affine] = {}
    for norm in norms:
        if isinstance(norm.scale, Tensor) and isinstance(norm.offset, Tensor):
            maps[norm] = norm.scale, norm.offset
        else:
            maps[norm] = 1 + next(predicted), next(predicted)
    return maps
