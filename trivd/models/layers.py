"""Spectrally normalised layers and per-time-step batch normalisation, the small parts every network is made of."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which convolutions of `x` run: autocast's where it is on, else that of `x`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Keep autocast away from sums that bfloat16 would spoil; shape-only devices have none."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()


class SpectralNorm(nn.Module):
    """A weight divided by an estimate of its largest singular value (Zhang et al. 2019; paper A and E.2).

    Each training-mode use makes one power iteration; evaluation uses the last estimate. Weights start orthogonal.

    Args:
        shape: of the weight, (out, in, *kernel); it is normalised as a matrix of `out` rows.
        bias: whether to learn an offset of shape (out,), which starts at zero.
    """

    left: Tensor
    right: Tensor

    def __init__(self, shape: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        nn.init.orthogonal_(self.weight)
        rows, columns = self.weight.flatten(1).shape
        self.register_buffer("left", F.normalize(torch.randn(rows), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(columns), dim=0))
        self.power_iteration(1)

    @torch.no_grad()
    def power_iteration(self, iterations: int) -> None:
        """Improve the estimate of the singular vectors, in place."""
        matrix = self.weight.flatten(1)
        with full_precision(matrix):
            left, right = self.left, self.right
            for _ in range(iterations):
                right = F.normalize(matrix.mT @ left, dim=0)
                left = F.normalize(matrix @ right, dim=0)
        self.left.copy_(left)
        self.right.copy_(right)

    def normalized_weight(self) -> Tensor:
        """The weight with largest singular value about 1; differentiable, in the weight's own type."""
        if self.training:
            self.power_iteration(1)
        with full_precision(self.weight):
            # Clones, since the next use overwrites the buffers that backward will read.
            sigma = self.left.clone() @ (self.weight.flatten(1) @ self.right.clone())
            return self.weight / sigma


class SNLinear(SpectralNorm):
    """Linear layer with spectral normalisation, (..., in) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__((outputs, inputs), bias)

    def bind(self) -> Callable[[Tensor], Tensor]:
        """The layer with its weight normalised once, to be called many times (at every time step)."""
        weight = self.normalized_weight()
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
        weight = self.normalized_weight()
        return lambda x: self.convolve(x, weight.to(compute_dtype(x)), self.bias, padding=self.padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.bind()(x)


class ClassEmbedding(SNLinear):
    """Linear embedding of the class, (B,) int64 -> (B, dim); without classes, of one constant zero class (A)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__(max(classes, 1), dim, bias=False)
        self.classes = classes

    def forward(self, labels: Tensor) -> Tensor:
        if self.classes == 0:
            labels = torch.zeros_like(labels)
        return F.embedding(labels, self.normalized_weight().mT)  # the linear map of a one-hot vector


def _per_channel(values: Tensor) -> Tensor:
    """(T, C) or (T, B, C), to broadcast over features (T, B, C, H, W)."""
    return (values.unsqueeze(1) if values.dim() == 2 else values)[..., None, None]


class _BatchNormalize(torch.autograd.Function):
    """Normalisation with the batch's own statistics, in fewer passes over the features than autograd's backward.

    With xhat = (x - mean) rstd and the gradient g of the output, the gradient of x is
    rstd (scale g - <scale g> - xhat <scale g xhat>), <> the mean over batch and space; both means follow from the
    gradients of offset and scale.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """x (T, B, C, H, W), scale and offset (B, C) or (C,) -> the same shape; mean and variance (T, C)."""
        features = x.float() if x.dtype == torch.bfloat16 else x
        mean = features.mean(dim=(1, 3, 4))
        centred = features - _per_channel(mean)
        variance = (centred * centred).mean(dim=(1, 3, 4))
        rstd = torch.rsqrt(variance + epsilon)
        gain = scale * rstd.unsqueeze(1)  # (T, B or 1, C)
        ctx.save_for_backward(centred, rstd, scale)
        ctx.dtype = x.dtype
        ctx.mark_non_differentiable(mean, variance)
        y = torch.addcmul(offset.expand_as(gain)[..., None, None], centred, gain[..., None, None])
        return y.to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *statistics: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, rstd, scale = ctx.saved_tensors
        gradient = gradient.to(centred.dtype)
        _, batch, _, height, width = centred.shape
        for_offset = gradient.sum(dim=(3, 4))  # (T, B, C)
        for_scale = (gradient * centred).sum(dim=(3, 4)) * rstd.unsqueeze(1)
        count = batch * height * width
        mean = (scale * for_offset).sum(dim=1) / count  # <scale g>, (T, C)
        projection = (scale * for_scale).sum(dim=1) / count  # <scale g xhat>, (T, C)
        for_x = torch.addcmul(_per_channel(-rstd * mean), centred, _per_channel(-rstd * rstd * projection))
        for_x = torch.addcmul(for_x, gradient, (scale * rstd.unsqueeze(1))[..., None, None])
        return for_x.to(ctx.dtype), for_scale.sum_to_size(scale.shape), for_offset.sum_to_size(scale.shape), None


class FrameNorm(nn.Module):
    """Batch normalisation with statistics of its own for each time step (A).

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

    def affine(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and offset, (B, C) or (C,)."""
        if isinstance(self.scale, SNLinear) and isinstance(self.offset, SNLinear):
            with full_precision(condition):
                return 1 + self.scale(condition), self.offset(condition)
        assert isinstance(self.scale, Tensor)
        assert isinstance(self.offset, Tensor)
        return self.scale, self.offset

    def collect(self, on: bool) -> None:
        """Start to average the statistics of every batch afresh, or stop."""
        self.collecting = on
        if on:
            self.collected = 0

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(T, B, C, H, W), (B, condition_dim) -> (T, B, C, H, W)."""
        scale, offset = self.affine(condition)
        if not self.training and not self.collecting:
            gain = scale * torch.rsqrt(self.standing_variance + self.epsilon).unsqueeze(1)  # (T, B or 1, C)
            shift = offset - self.standing_mean.unsqueeze(1) * gain
            return torch.addcmul(_per_channel(shift), x, _per_channel(gain)).to(x.dtype)
        y, mean, variance = _BatchNormalize.apply(x, scale, offset, self.epsilon)
        if self.collecting:
            self.collected += 1
            for standing, batch in ((self.standing_mean, mean), (self.standing_variance, variance)):
                standing.copy_(batch if self.collected == 1 else torch.lerp(standing, batch, 1 / self.collected))
        return y
