"""Spectrally normalised layers and per-time-step batch normalisation, the small parts every network is made of."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trivd.models.normalization import SpectralNorm, full_precision, normalized

__all__ = [
    "Affine",
    "ClassEmbedding",
    "FrameNorm",
    "SNConv",
    "SNLinear",
    "SpectralNorm",
    "affine_maps",
    "compute_dtype",
    "full_precision",
    "normalized",
]


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which convolutions of `x` run: autocast's where it is on, else that of `x`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


class SNLinear(SpectralNorm):
    """Linear layer with spectral normalisation, (..., in) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__((outputs, inputs), bias)

    def bind(self) -> Callable[[Tensor], Tensor]:
        """The layer with its weight normalised once, to be called many times (at every time step)."""
        weight = self.normalized_weight().to(compute_dtype(self.weight))
        return lambda x: F.linear(x, weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.bind()(x)


class SNConv(SpectralNorm):
    """Stride-1 convolution of odd size with zero padding and spectral normalisation, in 2 or 3 dimensions.

    (B, in, H, W) -> (B, out, H, W), or with a temporal size (B, in, T, H, W) -> (B, out, T, H, W).
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, dimensions: int = 2) -> None:
        super().__init__((outputs, inputs) + (size,) * dimensions)
        self.padding = size // 2
        self.convolve = F.conv2d if dimensions == 2 else F.conv3d

    def bind(self) -> Callable[[Tensor], Tensor]:
        """The layer with its weight normalised once, to be called many times (at every time step)."""
        weight = self.normalized_weight().to(compute_dtype(self.weight))
        return lambda x: self.convolve(x, weight, self.bias, padding=self.padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.bind()(x)

    def upsampled(self, x: Tensor) -> Tensor:
        """`forward` of x after nearest x2 upsampling, (B, in, H, W) -> (B, out, 2H, 2W), with 4/9 of its products.

        Each output reads 2 x 2 different pixels, so the two are one transposed convolution.
        """
        kernel = 4 * _averaged(self.normalized_weight()).flip(2, 3).transpose(0, 1)
        return F.conv_transpose2d(x, kernel.to(compute_dtype(x)), self.bias, stride=2, padding=self.padding)

    def pooled(self, x: Tensor) -> Tensor:
        """`forward` and then averages over 2 x 2 pixels, (..., H, W) -> (..., H/2, W/2).

        The two are one convolution of stride 2 whose kernel is one pixel larger: 4/9 of the products.
        """
        if min(x.shape[-2:]) < FOLDED_FROM:
            return pool_space(self(x))
        kernel = _averaged(self.normalized_weight()).to(compute_dtype(x))
        time = (1,) * (x.dim() - 4)
        return self.convolve(x, kernel, self.bias, stride=(*time, 2, 2), padding=self.padding)


FOLDED_FROM = 8  # pixels; on smaller features, libraries are faster with a plain convolution


def _averaged(kernel: Tensor) -> Tensor:
    """(..., k, k) -> (..., k + 1, k + 1): the kernel, then averages over 2 x 2 pixels."""
    if kernel.dim() == 4:
        return F.avg_pool2d(kernel, 2, stride=1, padding=1)
    return _averaged(kernel.flatten(1, 2)).unflatten(1, kernel.shape[1:3])


def pool_space(x: Tensor) -> Tensor:
    """Average over 2 x 2 pixels: (..., H, W) -> (..., H/2, W/2), for 4 or 5 dimensions."""
    if x.dim() == 4:
        return F.avg_pool2d(x, 2)
    frames = x.transpose(1, 2)  # pooled as pictures: autocast would have avg_pool3d run in float32
    return F.avg_pool2d(frames.flatten(0, 1), 2).unflatten(0, frames.shape[:2]).transpose(1, 2)


class ClassEmbedding(SNLinear):
    """Linear embedding of the class, (B,) int64 -> (B, dim); without classes, of one constant zero class (A)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__(max(classes, 1), dim, bias=False)
        self.classes = classes

    def forward(self, labels: Tensor) -> Tensor:
        if self.classes == 0:
            labels = torch.zeros_like(labels)
        return F.embedding(labels, self.normalized_weight().mT)  # the linear map of a one-hot vector


# Scale and offset of a normalisation, each (B, C) or (C,).
Affine = tuple[Tensor, Tensor]


def _per_channel(values: Tensor) -> Tensor:
    """(T, C) or (T, B, C), to broadcast over features (T, B, C, H, W)."""
    return (values.unsqueeze(1) if values.dim() == 2 else values)[..., None, None]


def _centre(features: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """features - mean, in place if they are a copy of x."""
    return features - _per_channel(mean) if features is x else features.sub_(_per_channel(mean))


class _BatchNormalize(torch.autograd.Function):
    """Normalisation with the batch's own statistics and ReLU, in fewer passes over the features than autograd's.

    With xhat = (x - mean) rstd and the gradient g of what the ReLU reads, the gradient of x is
    rstd (scale g - <scale g> - xhat <scale g xhat>), <> the mean over batch and space; both means follow from the
    gradients of offset and scale.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """x (T, B, C, H, W), scale and offset (B, C) or (C,) -> the same shape; mean and variance (T, C)."""
        features = x.float() if x.dtype == torch.bfloat16 else x
        mean = features.mean(dim=(1, 3, 4))
        centred = _centre(features, x, mean)
        variance = (centred * centred).mean(dim=(1, 3, 4))
        rstd = torch.rsqrt(variance + epsilon)
        gain = scale * rstd.unsqueeze(1)  # (T, B or 1, C)
        shift = _per_channel(offset.expand_as(gain)).expand_as(x)  # expanded, for the order in which memory is walked
        y = torch.addcmul(shift, centred, _per_channel(gain)).to(x.dtype).relu_()
        # x, not the centred features: it is half as large in bfloat16.
        ctx.save_for_backward(x, y, mean, rstd, scale)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *statistics: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, y, mean, rstd, scale = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0).to(mean.dtype)  # ReLU's
        centred = _centre(x.to(mean.dtype), x, mean)
        _, batch, _, height, width = x.shape
        for_offset = gradient.sum(dim=(3, 4))  # (T, B, C)
        for_scale = (gradient * centred).sum(dim=(3, 4)) * rstd.unsqueeze(1)
        count = batch * height * width
        shared = (scale * for_offset).sum(dim=1) / count  # <scale g>, (T, C)
        projection = (scale * for_scale).sum(dim=1) / count  # <scale g xhat>, (T, C)
        constant = _per_channel(-rstd * shared).expand_as(x)
        for_x = torch.addcmul(constant, centred, _per_channel(-rstd * rstd * projection))
        for_x.addcmul_(gradient, _per_channel(scale * rstd.unsqueeze(1)))
        return for_x.to(x.dtype), for_scale.sum_to_size(scale.shape), for_offset.sum_to_size(scale.shape), None


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
        """Start to average the statistics of every batch afresh, or stop."""
        self.collecting = on
        if on:
            self.collected = 0

    def forward(self, x: Tensor, affine: Affine) -> Tensor:
        """(T, B, C, H, W), its entry of `affine_maps` -> (T, B, C, H, W)."""
        scale, offset = affine
        if not self.training and not self.collecting:
            gain = scale * torch.rsqrt(self.standing_variance + self.epsilon).unsqueeze(1)  # (T, B or 1, C)
            shift = offset - self.standing_mean.unsqueeze(1) * gain
            return F.relu(torch.addcmul(_per_channel(shift), x, _per_channel(gain)).to(x.dtype))
        y, mean, variance = _BatchNormalize.apply(x, scale, offset, self.epsilon)
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
