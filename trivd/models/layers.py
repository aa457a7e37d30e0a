"""Spectrally normalised layers, the small parts every network is made of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.spectral_norm import SpectralNorm
from trivd.ops.conv3d import conv3d
from trivd.ops.gates import PartActivation, Parts, activate
from trivd.ops.precision import compute_dtype
from trivd.ops.residual import Unbiased, biased, leaves_bias
from trivd.ops.unroll import Recursion, missing_outputs, with_zeros
from trivd.ops.upsample import pooled_convolution, upsampled_convolution


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

    Args:
        inputs: channels.
        outputs: channels.
        size: of the kernel.
        dimensions: 2 or 3.
        folded: whether its weight is mostly folded with the resampling beside it, in full precision.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, dimensions: int = 2, folded: bool = False) -> None:
        super().__init__((outputs, inputs) + (size,) * dimensions)
        self.exact = folded
        self.padding = size // 2
        self.convolve = F.conv2d if dimensions == 2 else conv3d

    def bind(self) -> Callable[[Tensor], Tensor]:
        """The layer with its weight normalised once, to be called many times (at every time step)."""
        weight = self.normalized_weight().to(compute_dtype(self.weight))
        return lambda x: self.convolve(x, weight, self.bias, padding=self.padding)

    def forward(self, x: Tensor) -> Tensor:
        return biased(self.unbiased(x))

    def unbiased(self, x: Tensor) -> Unbiased:
        """`forward`, for functions of `trivd.ops.residual` to follow."""
        weight = self.normalized_weight().to(compute_dtype(self.weight))
        added, left = self._biases(x)
        return self.convolve(x, weight, added, padding=self.padding), left

    def upsampled(self, x: Tensor) -> Unbiased:
        """`unbiased` of x after nearest x2 upsampling, (B, in, H, W) -> (B, out, 2H, 2W)."""
        added, left = self._biases(x)
        return upsampled_convolution(x, self.normalized_weight(), added, compute_dtype(x)), left

    def pooled(self, x: Tensor, time: bool = False) -> Unbiased:
        """`unbiased` and then `average_pool`, (B, in, [T,] H, W) -> (B, out, [T',] H/2, W/2)."""
        added, left = self._biases(x)
        return pooled_convolution(x, self.normalized_weight(), added, compute_dtype(x), time), left

    def _biases(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What the convolution of x adds itself, and what it leaves to others to add."""
        return (None, self.bias) if leaves_bias(x) else (self.bias, None)


def share_layer(
    layer: SNConv | SNLinear, activation: PartActivation, recursion: Recursion | None, padded: bool = False
) -> Callable[[Tensor], Tensor]:
    """A whole layer followed by its activation, shared in a recursion; without one it may be called on its own.

    Args:
        layer: of `out` outputs.
        activation: of them all.
        recursion: in which it is shared, or None.
        padded: whether the result may have further channels after these, as it then has on a GPU.
    """
    if recursion is None:
        call = layer.bind()
        return lambda x: activate(call(x), activation)
    weight = layer.normalized_weight().to(recursion.dtype)
    bias = None if layer.bias is None else layer.bias.to(recursion.dtype)
    missing = missing_outputs(weight, len(weight))
    parts = Parts([len(weight) + missing], [activation]) if padded else Parts([len(weight)], [activation], missing)
    bias = None if bias is None else with_zeros(bias, missing)
    shared = recursion.share(with_zeros(weight, missing), bias, parts)
    return lambda x: shared(x)[0]


def bias_of(layer: nn.Module) -> Tensor:
    """The offset of a layer that has one."""
    bias = layer.bias
    assert isinstance(bias, Tensor)
    return bias


class ClassEmbedding(SNLinear):
    """Linear embedding of the class, (B,) int64 -> (B, dim); without classes, of one constant zero class (A)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__(max(classes, 1), dim, bias=False)
        self.classes = classes

    def forward(self, labels: Tensor) -> Tensor:
        if self.classes == 0:
            labels = torch.zeros_like(labels)
        return F.embedding(labels, self.normalized_weight().mT)  # the linear map of a one-hot vector
