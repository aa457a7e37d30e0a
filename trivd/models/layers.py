"""Spectrally normalised layers, the small parts every network is made of."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.spectral import SpectralNorm, full_precision, normalized

__all__ = [
    "ClassEmbedding",
    "SNConv",
    "SNLinear",
    "SpectralNorm",
    "compute_dtype",
    "exact_dtype",
    "full_precision",
    "normalized",
]


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which convolutions of `x` run: autocast's where it is on, else that of `x`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def exact_dtype(x: Tensor) -> torch.dtype:
    """The type of sums over `x`: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


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
