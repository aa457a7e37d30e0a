"""The hyper-networks f, which predict the weights of kernel-based warping (B, F.1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import SNConv, SNLinear, share_layer
from trivd.ops.softmax import softmax
from trivd.ops.unroll import Recursion

POOLED = 4  # output size of f's adaptive max-pooling (F.1)
# Offsets of logits with which warps start as "copy": of each kernel's own tap, and of the centre in what selects.
OWN_TAP = 5.0
CENTRE = 2.0


def _bias(layer: nn.Module) -> Tensor:
    bias = layer.bias
    assert isinstance(bias, Tensor)
    return bias


def hidden_sizes(channels: int, shares: tuple[float, float]) -> tuple[int, int]:
    """Channels or units of f's two hidden layers, as shares of those of [h; x]; the paper takes half of them (F.1)."""
    first, second = (max(1, int(share * channels)) for share in shares)
    return first, second


class FactorizedKernels(nn.Module):
    """f of the TSRUs and K-TrajGRU: N = k^2 kernels for the whole sample, mixed at every position (Eq 12).

    Its two first convolutions, which read [h; x], belong to the unit so that they run with the unit's others: `reads`
    names them and their channels. After them: ReLU -> 4 x 4 adaptive max-pooling -> linear -> ReLU -> linear.

    Args:
        channels: of [h; x].
        size: k.
        hidden: sizes of the two hidden layers, times `channels`.
        links: L, number of warps predicted.
    """

    def __init__(self, channels: int, size: int, hidden: tuple[float, float], links: int) -> None:
        super().__init__()
        self.taps = size**2
        self.links = links
        features, units = hidden_sizes(channels, hidden)
        self.reads = {"kernel_features": features, "selection": links * self.taps}
        self.hidden = SNLinear(features * POOLED**2, units)
        self.output = SNLinear(units, links * self.taps**2)

    def start_as_copy(self, first: nn.ModuleDict) -> None:
        """Let kernel n start as a shift to tap n, and the selection map prefer that of the centre.

        Started as means, kernels are all alike; those that others outrun stay so, and many taps are never used.

        Args:
            first: the unit's convolutions named in `reads`.
        """
        with torch.no_grad():
            _bias(self.output).copy_((OWN_TAP * torch.eye(self.taps)).flatten().repeat(self.links))
            _bias(first["selection"])[self.taps // 2 :: self.taps] = CENTRE

    def bind(self, recursion: Recursion | None = None) -> Callable[[dict[str, Tensor]], Tensor]:
        """A function from the outputs of the first convolutions to warping weights (B, L, k^2, H, W)."""
        hidden, output = share_layer(self.hidden, "relu", recursion), share_layer(self.output, "identity", recursion)

        def weights(read: dict[str, Tensor]) -> Tensor:
            # ReLU after pooling is ReLU before it, on fewer values.
            pooled = F.relu(F.adaptive_max_pool2d(read["kernel_features"], POOLED).flatten(1))
            kernels = softmax(output(hidden(pooled)).unflatten(1, (self.links, self.taps, self.taps)))
            selection = softmax(read["selection"].movedim(1, -1).unflatten(-1, (self.links, self.taps)))
            height, width = selection.shape[1:3]
            positions = selection.flatten(1, 2).transpose(1, 2)  # S: (B, L, H W, N)
            mixed = positions @ kernels.to(positions.dtype)  # Eq 12: (B, L, H W, k^2)
            return mixed.mT.unflatten(3, (height, width))

        return weights


class PixelwiseKernels(nn.Module):
    """f of the PTSRUs: a CNN of two hidden layers predicts k^2 weights for every position.

    As in `FactorizedKernels` the first convolution belongs to the unit, and the arguments are the same.
    """

    def __init__(self, channels: int, size: int, hidden: tuple[float, float]) -> None:
        super().__init__()
        first, second = hidden_sizes(channels, hidden)
        self.reads = {"kernel_features": first}
        self.hidden = SNConv(first, second)
        self.output = SNConv(second, size**2)

    def start_as_copy(self, first: nn.ModuleDict) -> None:
        """Let the weights start with more on the centre; `first` as in `FactorizedKernels`."""
        with torch.no_grad():
            bias = _bias(self.output)
            bias[len(bias) // 2] = CENTRE

    def bind(self, recursion: Recursion | None = None) -> Callable[[dict[str, Tensor]], Tensor]:
        """A function from the output of the first convolution to warping weights (B, 1, k^2, H, W)."""
        hidden, output = share_layer(self.hidden, "relu", recursion), share_layer(self.output, "identity", recursion)

        def weights(read: dict[str, Tensor]) -> Tensor:
            taps = output(hidden(F.relu(read["kernel_features"])))
            return softmax(taps.movedim(1, -1)).movedim(-1, 1).unsqueeze(1)

        return weights
