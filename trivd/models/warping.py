"""The hyper-networks f, which predict the weights of kernel-based warping (B, F.1)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import SNConv, SNLinear, bias_of, share_layer
from trivd.ops.cuda import library
from trivd.ops.mixed_warp import mixed_warp
from trivd.ops.pool import pooled_features
from trivd.ops.softmax import softmax
from trivd.ops.unroll import Recursion
from trivd.ops.warp import warp

POOLED = 4  # output size of f's adaptive max-pooling (F.1)
UNSHARP = 0.05  # share of an untrained warp's weight beside the centre that is due to its kernels


def hidden_sizes(channels: int, shares: tuple[float, float]) -> tuple[int, int]:
    """Channels or units of f's two hidden layers, as shares of those of [h; x]; the paper takes half of them (F.1)."""
    first, second = (max(1, int(share * channels)) for share in shares)
    return first, second


def taps_from_centre(size: int) -> Tensor:
    """The size^2 taps, m size + n as in Eq 11, from the centre outwards."""
    offsets = torch.arange(size) - size // 2
    distances = offsets.square()[:, None] + offsets.square()
    return distances.flatten().argsort(stable=True)


def start_offsets(weight: float, kernels: int, taps: int, central: int) -> tuple[float, float]:
    """Offsets of logits with which Eq 12 gives the centre a weight w: of each kernel's own tap, and of central kernels.

    Kernels are sharp: they take only `UNSHARP` of what is not on the centre, so that motion is a matter of the
    selection, and this is no surer than w needs. With a softmax that is sure of the centre, nothing else is learned.

    Args:
        weight: w, in (1 / K, 1).
        kernels: N.
        taps: K = k^2.
        central: m, how many of the kernels have their tap at the centre.
    """
    others = kernels - central
    if not others:
        return _offset(weight, 1, taps - 1), 0.0
    own = 1 - UNSHARP * (1 - weight)  # a kernel's weight on its own tap
    elsewhere = (1 - own) / (taps - 1)  # on each other tap
    chosen = (weight - elsewhere) / (own - elsewhere)  # weight of all central kernels: w = chosen own + rest elsewhere
    return _offset(own, 1, taps - 1), _offset(chosen, central, others)


def _offset(share: float, count: int, others: int) -> float:
    """The offset of `count` logits over `others` that gives them a share of the softmax."""
    return math.log(share * others / ((1 - share) * count))


@dataclass(frozen=True)
class Warps:
    """Warps predicted for one step; their logits may have further channels, which are ignored."""

    selection: Tensor  # of N kernels at each position (B, L N, H, W); without kernels, of taps (B, k^2, H, W)
    kernels: Tensor | None  # (B, L N k^2)
    links: int  # L
    count: int  # N, or k^2 without kernels
    taps: int  # k^2

    def weights(self) -> Tensor:
        """Warping weights (B, L, k^2, H, W)."""
        logits = _first(self.selection, self.links * self.count).movedim(1, -1)
        if self.kernels is None:
            return softmax(logits).movedim(-1, 1).unsqueeze(1)
        size = (self.links, self.count, self.taps)
        kernels = softmax(_first(self.kernels, math.prod(size)).unflatten(1, size))
        selection = softmax(logits.unflatten(-1, size[:2]))
        positions = selection.flatten(1, 2).transpose(1, 2)  # S: (B, L, H W, N)
        mixed = positions @ kernels.to(positions.dtype)  # Eq 12: (B, L, H W, k^2)
        return mixed.mT.unflatten(3, selection.shape[1:3])

    def warp(self, h: Tensor, replicate: bool, keep_weights: bool) -> tuple[Tensor, Tensor | None]:
        """h (B, C, H, W) -> (B, L C, H, W), all warps side by side, and the weights; a GPU has these only to keep."""
        if not keep_weights and library.fused(h, "mixed_warp"):
            return mixed_warp(h, self.selection, self.kernels, self.links, self.taps, replicate), None
        weights = self.weights()
        if self.links == 1:
            return warp(h, weights.squeeze(1), replicate), weights
        return torch.cat([warp(h, link, replicate) for link in weights.unbind(1)], dim=1), weights


def _first(logits: Tensor, count: int) -> Tensor:
    return logits if logits.shape[1] == count else logits[:, :count]


class FactorizedKernels(nn.Module):
    """f of the TSRUs and K-TrajGRU: N kernels for the whole sample, mixed at every position (Eq 12).

    Its two first convolutions, which read [h; x], belong to the unit so that they run with the unit's others: `reads`
    names them and their channels. After them: ReLU -> 4 x 4 adaptive max-pooling -> linear -> ReLU -> linear.

    Args:
        channels: of [h; x].
        size: k.
        hidden: sizes of the two hidden layers, times `channels`.
        links: L, number of warps predicted.
        count: N; None stands for k^2, as in the paper.
    """

    def __init__(
        self, channels: int, size: int, hidden: tuple[float, float], links: int, count: int | None = None
    ) -> None:
        super().__init__()
        self.size = size
        self.taps = size**2
        self.count = self.taps if count is None else count
        self.links = links
        features, units = hidden_sizes(channels, hidden)
        self.reads = {"kernel_features": features, "selection": links * self.count}
        self.hidden = SNLinear(features * POOLED**2, units)
        self.output = SNLinear(units, links * self.count * self.taps)

    def start_near_identity(self, weight: float, first: nn.ModuleDict) -> None:
        """Let each kernel start near a shift to one tap, and the selection map prefer that of the centre.

        Fewer kernels than taps have those nearest to the centre, and more begin with it again. Started as means,
        kernels are all alike; those that others outrun stay so, and many taps are never used.

        Args:
            weight: of an untrained warp on the centre.
            first: the unit's convolutions named in `reads`.
        """
        own = taps_from_centre(self.size)[torch.arange(self.count) % self.taps]  # of kernel n
        at_own, at_centre = start_offsets(weight, self.count, self.taps, central=-(-self.count // self.taps))
        with torch.no_grad():
            kernels = at_own * (own[:, None] == torch.arange(self.taps))
            bias_of(self.output).copy_(kernels.flatten().repeat(self.links))
            bias_of(first["selection"]).copy_((at_centre * (own == self.taps // 2)).repeat(self.links))

    def bind(self, recursion: Recursion | None = None) -> Callable[[dict[str, Tensor]], Warps]:
        """A function from the outputs of the first convolutions to L warps."""
        hidden = share_layer(self.hidden, "relu", recursion)
        output = share_layer(self.output, "identity", recursion, padded=True)

        def warps(read: dict[str, Tensor]) -> Warps:
            # ReLU after pooling is ReLU before it, on fewer values.
            pooled = pooled_features(read["kernel_features"], POOLED)
            return Warps(read["selection"], output(hidden(pooled)), self.links, self.count, self.taps)

        return warps


class PixelwiseKernels(nn.Module):
    """f of the PTSRUs: a CNN of two hidden layers predicts k^2 weights for every position.

    As in `FactorizedKernels` the first convolution belongs to the unit, and the arguments are the same that it has.
    """

    def __init__(self, channels: int, size: int, hidden: tuple[float, float]) -> None:
        super().__init__()
        first, second = hidden_sizes(channels, hidden)
        self.taps = size**2
        self.reads = {"kernel_features": first}
        self.hidden = SNConv(first, second)
        self.output = SNConv(second, size**2)

    def start_near_identity(self, weight: float, first: nn.ModuleDict) -> None:
        """Let untrained warps have so much weight on the centre; `first` is not needed here."""
        with torch.no_grad():
            bias_of(self.output)[self.taps // 2] = _offset(weight, 1, self.taps - 1)

    def bind(self, recursion: Recursion | None = None) -> Callable[[dict[str, Tensor]], Warps]:
        """A function from the output of the first convolution to a warp."""
        hidden = share_layer(self.hidden, "relu", recursion)
        output = share_layer(self.output, "identity", recursion, padded=True)

        def warps(read: dict[str, Tensor]) -> Warps:
            return Warps(output(hidden(F.relu(read["kernel_features"]))), None, 1, self.taps, self.taps)

        return warps
