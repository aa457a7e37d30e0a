"""Normalisation of each time step by its own statistics, an affine map of each sample, and ReLU (paper A)."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from trivd.ops.cpu.library import kernel, launch
from trivd.ops.operator import Operator, channels_innermost, empty
from trivd.ops.precision import exact_dtype
from trivd.runtime.distributed import all_reduce_mean, world_size


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (T, C) of features (T, B, C, H, W) over batch and space, without a derivative."""
    mean, variance = _statistics(x.detach())
    return mean, variance


def over_processes(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (T, C) of the features of all processes, from those of each; all have as many."""
    if world_size() == 1:
        return mean, variance
    first = mean.double()
    moments = all_reduce_mean(torch.stack([first, variance + first.square()]))  # in float64: no digits are lost
    return moments[0].to(mean.dtype), (moments[1] - moments[0].square()).to(mean.dtype)


def normalize(
    x: Tensor, mean: Tensor, variance: Tensor, affine: tuple[Tensor, Tensor], *, epsilon: float, own: bool
) -> Tensor:
    """relu((x - mean) rstd scale + offset), rstd being 1 / sqrt(variance + epsilon).

    Its derivative takes fewer passes over the features than autograd's would. With xhat = (x - mean) rstd and the
    gradient g of what the ReLU reads, the gradient of x is rstd (scale g - <scale g> - xhat <scale g xhat>), <> the
    mean over batch and space of all processes; both means follow from the gradients of offset and scale, and are left
    out if mean and variance are not those of x.

    Args:
        x: features (T, B, C, H, W).
        mean: (T, C).
        variance: (T, C).
        affine: scale and offset, each (B, C) or (C,).
        epsilon: added to the variance.
        own: whether mean and variance are statistics of x, which the derivative then passes through.

    Returns:
        (T, B, C, H, W) in the type of x.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if x.dim() != 5 or not mean.shape == variance.shape == (x.shape[0], x.shape[2]):
        shapes = f"{tuple(mean.shape)} and {tuple(variance.shape)}"
        raise ValueError(f"Statistics {shapes} are not of features {tuple(x.shape)}.")
    mean, variance = (values.to(exact_dtype(x)).contiguous() for values in (mean, variance))
    y: Tensor = _normalize(x, mean, variance, epsilon, own, *affine)
    return y


# The plain form


def _per_channel(values: Tensor) -> Tensor:
    """(T, C) or (T, B, C), to broadcast over features (T, B, C, H, W)."""
    return (values.unsqueeze(1) if values.dim() == 2 else values)[..., None, None]


def _per_sample(values: Tensor, x: Tensor, like: Tensor) -> Tensor:
    """Scale or offset, (B, C) or (C,), as (B, C) in the type of `like`."""
    return values.to(like.dtype).expand(x.shape[1:3])


def _rstd(variance: Tensor, epsilon: float) -> Tensor:
    return torch.rsqrt(variance + epsilon)


def plain_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    features = x.to(exact_dtype(x))
    mean = features.mean(dim=(1, 3, 4))
    return mean, (features - _per_channel(mean)).square().mean(dim=(1, 3, 4))


def plain_normalize(
    x: Tensor, mean: Tensor, variance: Tensor, epsilon: float, own: bool, scale: Tensor, offset: Tensor
) -> Tensor:
    gain = _per_sample(scale, x, mean) * _rstd(variance, epsilon).unsqueeze(1)  # (T, B, C)
    centred = x.to(mean.dtype) - _per_channel(mean)
    y = torch.addcmul(_per_sample(offset, x, mean)[..., None, None], centred, _per_channel(gain)).relu_()
    return channels_innermost(y.to(x.dtype))


def _passed(gradient: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """Gradient of what the ReLU reads, from that of its result y."""
    return torch.where(y > 0, gradient, 0).to(dtype)


def plain_normalize_sums(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    own: bool,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Means <scale g> and <scale g xhat> of this process (2, T, C), or zeros; gradients of scale and offset."""
    passed = _passed(gradient, y, mean.dtype)
    normalized = (x.to(mean.dtype) - _per_channel(mean)) * _per_channel(_rstd(variance, epsilon))
    return _sums((passed * normalized).sum(dim=(3, 4)), passed.sum(dim=(3, 4)), x, own, scale)


def _sums(for_scale: Tensor, for_offset: Tensor, x: Tensor, own: bool, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The results of `normalize_sums` from the gradients of scale and offset of each time step and sample (T, B, C)."""
    means = for_scale.new_zeros(2, x.shape[0], x.shape[2])
    if own:
        scales = _per_sample(scale, x, for_scale)
        sums = torch.stack([(scales * for_offset).sum(dim=1), (scales * for_scale).sum(dim=1)])
        means = sums / (x.shape[1] * x.shape[3] * x.shape[4])
    return means, for_scale.sum_to_size(scale.shape), for_offset.sum_to_size(scale.shape)


def plain_normalize_backward(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    scale: Tensor,
    means: Tensor,
) -> Tensor:
    """Gradient of x: rstd (scale g - <scale g> - xhat <scale g xhat>), with both means (2, T, C)."""
    shared, projection = means
    rstd = _rstd(variance, epsilon)
    passed = _passed(gradient, y, mean.dtype)
    normalized = (x.to(mean.dtype) - _per_channel(mean)) * _per_channel(rstd)
    scaled = passed * _per_sample(scale, x, mean)[..., None, None]
    for_x = scaled - _per_channel(shared) - normalized * _per_channel(projection)
    return channels_innermost((for_x * _per_channel(rstd)).to(x.dtype))


def _fake_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.new_empty(x.shape[0], x.shape[2], dtype=exact_dtype(x))
    return mean, torch.empty_like(mean)


def _fake_sums(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    own: bool,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    sums = mean.new_empty(scale.shape)
    return mean.new_empty(2, *mean.shape), sums, torch.empty_like(sums)


_statistics = Operator("statistics", plain_statistics, _fake_statistics)
_normalize = Operator("normalize", plain_normalize, lambda x, *_: empty(x))
_normalize_sums = Operator("normalize_sums", plain_normalize_sums, _fake_sums)
_normalize_backward = Operator("normalize_backward", plain_normalize_backward, lambda _, x, *__: empty(x))

# CPU


class _Frames(ctypes.Structure):
    """Sizes of features, as in cpu/kernels/normalize.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("frames", "samples", "positions", "channels"))


def _frames(x: Tensor) -> _Frames:
    """The sizes of x (T, B, C, H, W)."""
    steps, batch, channels, height, width = x.shape
    return _Frames(steps, batch, height * width, channels)


@_statistics.kernel("CPU")
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    compiled = kernel("statistics", x)
    if compiled is None:
        return plain_statistics(x)
    x = channels_innermost(x)
    mean, variance = _fake_statistics(x)
    launch(compiled, x, mean, variance, _frames(x), elements=x.numel())
    return mean, variance


@_normalize.kernel("CPU")
def _(x: Tensor, mean: Tensor, variance: Tensor, epsilon: float, own: bool, scale: Tensor, offset: Tensor) -> Tensor:
    compiled = kernel("normalize", x)
    if compiled is None:
        return plain_normalize(x, mean, variance, epsilon, own, scale, offset)
    gain = _per_sample(scale, x, mean) * _rstd(variance, epsilon).unsqueeze(1)
    x, gain, offset = channels_innermost(x), gain.contiguous(), _per_sample(offset, x, mean).contiguous()
    y = torch.empty_like(x)
    launch(compiled, x, mean, gain, offset, y, _frames(x), elements=x.numel())
    return y


@_normalize_sums.kernel("CPU")
def _(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    own: bool,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    compiled = kernel("normalize_sums", gradient, x, y)
    if compiled is None:
        return plain_normalize_sums(gradient, x, y, mean, variance, epsilon, own, scale)
    gradient, x, y = map(channels_innermost, (gradient, x, y))
    for_scale = mean.new_empty(x.shape[:3])
    for_offset = torch.empty_like(for_scale)
    rstd = _rstd(variance, epsilon)
    launch(compiled, gradient, x, y, mean, rstd, for_scale, for_offset, _frames(x), elements=x.numel())
    return _sums(for_scale, for_offset, x, own, scale)


@_normalize_backward.kernel("CPU")
def _(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    scale: Tensor,
    means: Tensor,
) -> Tensor:
    compiled = kernel("normalize_backward", gradient, x, y)
    if compiled is None:
        return plain_normalize_backward(gradient, x, y, mean, variance, epsilon, scale, means)
    gradient, x, y = map(channels_innermost, (gradient, x, y))
    shared, projection = means.contiguous()
    for_x = torch.empty_like(x)
    scales = _per_sample(scale, x, mean).contiguous()
    tensors = (gradient, x, y, mean, _rstd(variance, epsilon), scales, shared, projection, for_x)
    launch(compiled, *tensors, _frames(x), elements=x.numel())
    return for_x


# The derivative


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, mean, variance, ctx.epsilon, ctx.own, scale, _ = inputs
    # x, not the normalised features: it is half as large in bfloat16.
    ctx.save_for_backward(x, output, mean, variance, scale)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, y, mean, variance, scale = ctx.saved_tensors
    means, *for_affine = _normalize_sums(gradient, x, y, mean, variance, ctx.epsilon, ctx.own, scale)
    if ctx.own:
        means = all_reduce_mean(means)
    for_x = _normalize_backward(gradient, x, y, mean, variance, ctx.epsilon, scale, means)
    return for_x, None, None, None, None, *for_affine


_normalize.derivative(_save, _backward)
