"""Spectrally normalised layers and per-time-step batch normalisation, the small parts every network is made of."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which convolutions of `x` run: autocast's where it is on, else that of `x`."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


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
        # Outside autocast: bfloat16 would spoil the estimate.
        with torch.autocast(matrix.device.type, enabled=False):
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
        with torch.autocast(self.weight.device.type, enabled=False):
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
        """Scale and offset, broadcastable to (T, B, C)."""
        if isinstance(self.scale, SNLinear) and isinstance(self.offset, SNLinear):
            return 1 + self.scale(condition), self.offset(condition)
        assert isinstance(self.scale, Tensor)
        assert isinstance(self.offset, Tensor)
        return self.scale, self.offset

    def collect(self, on: bool) -> None:
        """Start to average the statistics of every batch afresh, or stop."""
        self.collecting = on
        if on:
            self.collected = 0

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (T, C) to normalise x (T, B, C, H, W) with."""
        if not self.training and not self.collecting:
            return self.standing_mean, self.standing_variance
        variance, mean = torch.var_mean(x, dim=(1, 3, 4), correction=0)
        if self.collecting:
            self.collected += 1
            for standing, batch in ((self.standing_mean, mean), (self.standing_variance, variance)):
                standing.copy_(batch if self.collected == 1 else torch.lerp(standing, batch, 1 / self.collected))
        return mean, variance

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(T, B, C, H, W), (B, condition_dim) -> (T, B, C, H, W)."""
        if x.dtype == torch.bfloat16:
            x = x.float()
        mean, variance = self.statistics(x)
        scale, offset = self.affine(condition)
        gain = scale * torch.rsqrt(variance + self.epsilon).unsqueeze(1)  # (T, B or 1, C)
        shift = offset - mean.unsqueeze(1) * gain
        return torch.addcmul(shift[..., None, None], x, gain[..., None, None])
