"""I3D trained on Kinetics-400, the network whose logits the field's FVD compares, exact to the reference in float32.

Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?"; FVD: Unterthiner et al. 2018.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from trivd.config import I3DInput
from trivd.evaluation.networks.features import Features, check_clips
from trivd.evaluation.networks.i3d_layout import LAYERS, LOGITS, Convolution, Folded, MaxPool, Mixed, fold
from trivd.evaluation.networks.inputs import INPUTS
from trivd.runtime.hardware import full_float32

SHORTEST = 9  # frames: fewer leave less than the two time steps that the last average pool spans
AVERAGE_POOL = (2, 7, 7)  # of (T, H, W), at every time step


@dataclass(frozen=True)
class Identity:
    """Names of the figures that a network gives; only the reference weights give an "FVD"."""

    distance: str  # between embeddings
    inception: str  # of logits
    about: str  # the network and its weights
    sha256: str = ""  # of the weights, where it is known


class I3D(nn.Module):
    """The RGB stream of I3D as a `trivd.evaluation.networks.features.FeatureNetwork`; built by `from_tensorflow`.

    Between layers, features are (B, T, H, W, C): the layout in which convolutions and pools are fastest, and in which
    a 1x1x1 convolution is a matrix product. BatchNorm is folded into the convolutions.
    """

    shortest = SHORTEST

    def __init__(self, convolutions: Mapping[str, Folded], identity: Identity) -> None:
        """Build the table's layers.

        Args:
            convolutions: weights by the convolution's name in the table.
            identity: names of the figures.
        """
        super().__init__()
        self.distance = identity.distance
        self.inception = identity.inception
        self.about = identity.about
        self.input: I3DInput = "reference"
        self.fingerprint = f"i3d {identity.sha256}" if identity.sha256 else ""
        self.layers = nn.ModuleDict()
        for layer in LAYERS:
            match layer:
                case Convolution(name, stride=stride):
                    self.layers[name] = _convolution(convolutions[name], stride)
                case MaxPool(name, kernel, stride):
                    self.layers[name] = _MaxPool(kernel, stride)
                case Mixed(name):
                    self.layers[name] = _Mixed(layer, convolutions)
        self.logits = _Pointwise([convolutions[LOGITS]])

    @classmethod
    def from_tensorflow(cls, variables: Mapping[str, NDArray[Any]], identity: Identity) -> "I3D":
        """The network with the weights of a TensorFlow checkpoint or hub module.

        Args:
            variables: arrays by name, with the names and shapes of `i3d_layout.variable_shapes`.
            identity: names of the figures.

        Raises:
            TrivdError: a variable is missing, of another shape or not finite, or there is a surplus one.
        """
        return cls(fold(variables), identity)

    def with_input(self, name: I3DInput, label: str) -> "I3D":
        """Take frames in another way, whose figures are not comparable, and are called so.

        Args:
            name: of `trivd.evaluation.networks.inputs`.
            label: what tells the figures apart, as "FVD (label)".
        """
        self.input = name
        self.distance, self.inception = (f"{figure} ({label})" for figure in (self.distance, self.inception))
        self.about += f", input {name}"
        self.fingerprint = self.fingerprint and f"{self.fingerprint} {name}"
        return self

    @torch.no_grad()
    def forward(self, video: Tensor) -> Features:
        """Logits of the 400 classes, averaged over time; they are the embedding as well.

        Args:
            video: clips (B, T, H, W, C) of uint8, T >= 9, C = 1 (repeated for the three colours) or 3; on any device.
                Memory is taken for the whole batch: about 45 MB per clip of 16 frames.

        Raises:
            TrivdError: the clips are not uint8, or too short.
        """
        check_clips(video, SHORTEST)
        device = self.logits.weight.device
        with full_float32(device):
            features = INPUTS[self.input](video.to(device))
            for layer in self.layers.values():
                features = layer(features)
            pooled = F.avg_pool3d(features.movedim(-1, 1), AVERAGE_POOL, stride=1)  # (B, 1024, T', 1, 1)
            logits = self.logits(pooled.flatten(2).transpose(1, 2)).mean(dim=1)  # (B, 400)
        return Features(embedding=logits, logits=logits)


class _Pointwise(nn.Module):
    """1x1x1 convolutions of one input, their outputs side by side: (B, ..., in) -> (B, ..., out)."""

    def __init__(self, convolutions: list[Folded]) -> None:
        super().__init__()
        self.weight = nn.Buffer(torch.cat([weight.flatten(1) for weight, _ in convolutions]))  # (out, in)
        self.bias = nn.Buffer(torch.cat([bias for _, bias in convolutions]))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)


class _Cubic(nn.Module):
    """A convolution with SAME padding: (B, T, H, W, in) -> (B, T', H', W', out).

    A single channel stands for `in` equal ones, whose kernels are added: a third of the work for grey clips.
    """

    def __init__(self, convolution: Folded, stride: int) -> None:
        super().__init__()
        self.weight = nn.Buffer(convolution.weight.contiguous(memory_format=torch.channels_last_3d))
        self.bias = nn.Buffer(convolution.bias)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        padding = [
            same_padding(size, kernel, self.stride)
            for size, kernel in zip(features.shape[1:4], self.weight.shape[2:], strict=True)
        ]
        before = [start for start, _ in padding]
        surplus = [end - start for start, end in padding]  # the convolution pads symmetrically
        if any(surplus):
            features = F.pad(features, (0, 0, 0, surplus[2], 0, surplus[1], 0, surplus[0]))
        weight = self.weight if features.shape[-1] > 1 else self.weight.sum(dim=1, keepdim=True)
        return F.conv3d(features.movedim(-1, 1), weight, self.bias, self.stride, before).movedim(1, -1)


def _convolution(convolution: Folded, stride: int) -> nn.Module:
    pointwise = convolution.weight.shape[-1] == 1
    return nn.Sequential(
        _Pointwise([convolution]) if pointwise else _Cubic(convolution, stride),
        nn.ReLU(inplace=True),
    )


class _MaxPool(nn.Module):
    """Max pooling with SAME padding: (B, T, H, W, C) -> (B, T', H', W', C)."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        before = [
            same_padding(size, kernel, stride)[0]
            for size, kernel, stride in zip(features.shape[1:4], self.kernel, self.stride, strict=True)
        ]
        # With the ceiling, windows may hang over the end: that is the padding after it.
        pooled = F.max_pool3d(features.movedim(-1, 1), self.kernel, self.stride, before, ceil_mode=True)
        return pooled.movedim(1, -1)


class _Mixed(nn.Module):
    """An Inception block: (B, T, H, W, in) -> (B, T, H, W, out)."""

    def __init__(self, table: Mixed, convolutions: Mapping[str, Folded]) -> None:
        super().__init__()
        reductions = [convolutions[reduction.name] for reduction in table.reductions()]
        self.widths = [len(bias) for _, bias in reductions]
        self.reduce = nn.Sequential(_Pointwise(reductions), nn.ReLU(inplace=True))
        self.expand_1, self.expand_2 = (_convolution(convolutions[branch.name], 1) for branch in table.expansions())
        self.pool = _MaxPool((3, 3, 3), (1, 1, 1))
        self.project = _convolution(convolutions[table.projection().name], 1)

    def forward(self, features: Tensor) -> Tensor:
        branch_0, branch_1, branch_2 = self.reduce(features).split(self.widths, dim=-1)
        branch_3 = self.project(self.pool(features))
        return torch.cat([branch_0, self.expand_1(branch_1), self.expand_2(branch_2), branch_3], dim=-1)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after an axis of `size`; an odd pixel goes to the end."""
    steps = -(-size // stride)
    total = max((steps - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
