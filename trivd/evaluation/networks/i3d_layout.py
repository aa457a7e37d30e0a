"""I3D's architecture as one table, and its variables as TensorFlow names, shapes and lays them out.

Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", figure 3: Inception-v1 inflated to 3D.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivd.runtime.errors import TrivdError

CLASSES = 400  # of Kinetics-400
BATCH_NORM_EPSILON = 1e-3
SCOPE = "RGB/inception_i3d/"  # what every variable's name starts with
LOGITS = "Logits/Conv3d_0c_1x1"  # the last convolution, the only one with a bias and without BatchNorm


@dataclass(frozen=True)
class Convolution:
    """Convolution, BatchNorm and ReLU; the kernel is a cube."""

    name: str
    kernel: int
    outputs: int
    stride: int = 1


@dataclass(frozen=True)
class MaxPool:
    """Max pooling over (T, H, W)."""

    name: str
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]


@dataclass(frozen=True)
class Mixed:
    """An Inception block: four branches of the same input, concatenated."""

    name: str
    branch_0: int  # outputs of 1x1x1
    branch_1: tuple[int, int]  # of 1x1x1, then 3x3x3
    branch_2: tuple[int, int]  # of 1x1x1, then 3x3x3
    branch_3: int  # of 1x1x1 after a max pool of 3
    branch_2_name: str = "Conv3d_0b_3x3"  # of its second convolution

    def reductions(self) -> tuple[Convolution, Convolution, Convolution]:
        """The 1x1x1 convolutions of the block's input, of branches 0 to 2."""
        return (
            Convolution(f"{self.name}/Branch_0/Conv3d_0a_1x1", 1, self.branch_0),
            Convolution(f"{self.name}/Branch_1/Conv3d_0a_1x1", 1, self.branch_1[0]),
            Convolution(f"{self.name}/Branch_2/Conv3d_0a_1x1", 1, self.branch_2[0]),
        )

    def expansions(self) -> tuple[Convolution, Convolution]:
        """The 3x3x3 convolutions of branches 1 and 2."""
        return (
            Convolution(f"{self.name}/Branch_1/Conv3d_0b_3x3", 3, self.branch_1[1]),
            Convolution(f"{self.name}/Branch_2/{self.branch_2_name}", 3, self.branch_2[1]),
        )

    def projection(self) -> Convolution:
        """The 1x1x1 convolution after branch 3's max pool."""
        return Convolution(f"{self.name}/Branch_3/Conv3d_0b_1x1", 1, self.branch_3)

    @property
    def outputs(self) -> int:
        """Channels of the concatenated branches."""
        return self.branch_0 + self.branch_1[1] + self.branch_2[1] + self.branch_3


LAYERS: tuple[Convolution | MaxPool | Mixed, ...] = (
    Convolution("Conv3d_1a_7x7", kernel=7, outputs=64, stride=2),
    MaxPool("MaxPool3d_2a_3x3", kernel=(1, 3, 3), stride=(1, 2, 2)),
    Convolution("Conv3d_2b_1x1", kernel=1, outputs=64),
    Convolution("Conv3d_2c_3x3", kernel=3, outputs=192),
    MaxPool("MaxPool3d_3a_3x3", kernel=(1, 3, 3), stride=(1, 2, 2)),
    Mixed("Mixed_3b", 64, (96, 128), (16, 32), 32),
    Mixed("Mixed_3c", 128, (128, 192), (32, 96), 64),
    MaxPool("MaxPool3d_4a_3x3", kernel=(3, 3, 3), stride=(2, 2, 2)),
    Mixed("Mixed_4b", 192, (96, 208), (16, 48), 64),
    Mixed("Mixed_4c", 160, (112, 224), (24, 64), 64),
    Mixed("Mixed_4d", 128, (128, 256), (24, 64), 64),
    Mixed("Mixed_4e", 112, (144, 288), (32, 64), 64),
    Mixed("Mixed_4f", 256, (160, 320), (32, 128), 128),
    MaxPool("MaxPool3d_5a_2x2", kernel=(2, 2, 2), stride=(2, 2, 2)),
    Mixed("Mixed_5b", 256, (160, 320), (32, 128), 128, branch_2_name="Conv3d_0a_3x3"),  # the original's own slip
    Mixed("Mixed_5c", 384, (192, 384), (48, 128), 128),
)


class Folded(NamedTuple):
    """A convolution with its BatchNorm folded in, float32."""

    weight: Tensor  # (out, in, T, H, W)
    bias: Tensor  # (out,)


def variable_shapes() -> dict[str, tuple[int, ...]]:
    """TensorFlow name -> shape of the 230 variables; kernels are (T, H, W, in, out)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for convolution, inputs in _convolutions():
        prefix = SCOPE + convolution.name
        shapes[f"{prefix}/conv_3d/w"] = (*[convolution.kernel] * 3, inputs, convolution.outputs)
        if convolution.name == LOGITS:
            shapes[f"{prefix}/conv_3d/b"] = (convolution.outputs,)
        else:
            for statistic in ("beta", "moving_mean", "moving_variance"):
                shapes[f"{prefix}/batch_norm/{statistic}"] = (1, 1, 1, 1, convolution.outputs)
    return shapes


def fold(variables: Mapping[str, NDArray[Any]]) -> dict[str, Folded]:
    """Every convolution by its name in the table, with BatchNorm folded in.

    y = (w * x - mean) / sqrt(variance + epsilon) + beta is one convolution: the scale goes into w, the rest is a bias.
    Computed in float64, so that only the rounding of the result remains.

    Args:
        variables: arrays by TensorFlow name, with the shapes of `variable_shapes`.

    Raises:
        TrivdError: a variable is missing, of another shape or not finite, or there is a surplus one.
    """
    _check(variables)
    folded: dict[str, Folded] = {}
    for convolution, _ in _convolutions():
        prefix = SCOPE + convolution.name
        weight = variables[f"{prefix}/conv_3d/w"].astype(np.float64)  # (T, H, W, in, out)
        if convolution.name == LOGITS:
            bias = variables[f"{prefix}/conv_3d/b"].astype(np.float64)
        else:
            beta, mean, variance = (
                variables[f"{prefix}/batch_norm/{statistic}"].astype(np.float64).reshape(-1)
                for statistic in ("beta", "moving_mean", "moving_variance")
            )
            scale = 1 / np.sqrt(variance + BATCH_NORM_EPSILON)  # (out,)
            weight = weight * scale
            bias = beta - mean * scale
        kernel = torch.from_numpy(weight).permute(4, 3, 0, 1, 2)  # (out, in, T, H, W)
        folded[convolution.name] = Folded(kernel.float().contiguous(), torch.from_numpy(bias).float())
    return folded


def _convolutions() -> Iterator[tuple[Convolution, int]]:
    """Every convolution of the table and the last one, with its input channels."""
    channels = 3
    for layer in LAYERS:
        if isinstance(layer, Convolution):
            yield layer, channels
        elif isinstance(layer, Mixed):
            for reduction in layer.reductions():
                yield reduction, channels
            yield from zip(layer.expansions(), (layer.branch_1[0], layer.branch_2[0]), strict=True)
            yield layer.projection(), channels
        if not isinstance(layer, MaxPool):
            channels = layer.outputs
    yield Convolution(LOGITS, 1, CLASSES), channels


def _check(variables: Mapping[str, NDArray[Any]]) -> None:
    shapes = variable_shapes()
    if variables.keys() != shapes.keys():
        odd = min(variables.keys() ^ shapes.keys())
        kind = "lack" if odd in shapes else "have an unknown"
        raise TrivdError(f"These I3D weights {kind} variable {odd}; they must be the 230 of kinetics-i3d's RGB stream.")
    for name, shape in shapes.items():
        if variables[name].shape != shape:
            raise TrivdError(f"I3D variable {name} has shape {variables[name].shape}, but the network's is {shape}.")
        if not np.isfinite(variables[name]).all():
            raise TrivdError(f"I3D variable {name} has values that are not finite; fetch the weights again.")
