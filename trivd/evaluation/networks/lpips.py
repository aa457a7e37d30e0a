"""LPIPS: the distance of two frames in the features of an image classifier, weighed to agree with people's judgements.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", section 3 and Eq 1; version
0.1 of the authors' package `lpips`, whose input is scaled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import full_float32

BackboneName = Literal["alex", "vgg"]
Arrays = Mapping[str, NDArray[np.float32]]

SHIFT = (-0.030, -0.088, -0.188)  # of ImageNet's colours, for frames in [-1, 1]
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10  # beside the length of a feature vector


@dataclass(frozen=True)
class Convolution:
    """A convolution and ReLU."""

    number: int  # among torchvision's `features`
    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True)
class Backbone:
    """An image classifier as stages of convolutions; the distance is taken at the end of each stage."""

    title: str
    stages: tuple[tuple[Convolution, ...], ...]
    pooled: tuple[bool, ...]  # whether a stage begins with a max pool of stride 2
    pool: int  # its kernel
    smallest: int  # pixels of the frames

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight, as torchvision has them."""
        found: dict[str, tuple[int, ...]] = {}
        inputs = 3
        for convolution in (convolution for stage in self.stages for convolution in stage):
            name = f"features.{convolution.number}"
            found[f"{name}.weight"] = (convolution.outputs, inputs, convolution.kernel, convolution.kernel)
            found[f"{name}.bias"] = (convolution.outputs,)
            inputs = convolution.outputs
        return found

    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of the weights of channels, as the package `lpips` has them."""
        return {f"lin{number}.model.1.weight": (1, stage[-1].outputs, 1, 1) for number, stage in enumerate(self.stages)}


BACKBONES: dict[BackboneName, Backbone] = {
    "alex": Backbone(
        "AlexNet",
        (
            (Convolution(0, 64, kernel=11, stride=4, padding=2),),
            (Convolution(3, 192, kernel=5, padding=2),),
            (Convolution(6, 384),),
            (Convolution(8, 256),),
            (Convolution(10, 256),),
        ),
        pooled=(False, True, True, False, False),
        pool=3,
        smallest=31,
    ),
    "vgg": Backbone(
        "VGG",
        (
            (Convolution(0, 64), Convolution(2, 64)),
            (Convolution(5, 128), Convolution(7, 128)),
            (Convolution(10, 256), Convolution(12, 256), Convolution(14, 256)),
            (Convolution(17, 512), Convolution(19, 512), Convolution(21, 512)),
            (Convolution(24, 512), Convolution(26, 512), Convolution(28, 512)),
        ),
        pooled=(False, True, True, True, True),
        pool=2,
        smallest=16,
    ),
}


def score_name(name: BackboneName) -> str:
    """What columns and curves of LPIPS by a backbone are called."""
    return f"lpips-{name}"


class Lpips(nn.Module):
    """The distance by one backbone; built from weights under the names of torchvision and of the package `lpips`.

    Args:
        name: of the backbone.
        weights: its weights, of the shapes of `Backbone.shapes`.
        heads: weights of channels, of the shapes of `Backbone.head_shapes`.
        about: backbone and weights, for the protocol line.
    """

    def __init__(self, name: BackboneName, weights: Arrays, heads: Arrays, about: str) -> None:
        super().__init__()
        self.about = about
        self.backbone = BACKBONES[name]
        self.score = score_name(name)
        self.weights = nn.ParameterDict({key.replace(".", "_"): _fixed(weights[key]) for key in self.backbone.shapes()})
        self.heads = nn.ParameterList(_fixed(heads[key]) for key in self.backbone.head_shapes())
        self.shift = nn.Buffer(torch.tensor(SHIFT)[:, None, None])
        self.scale = nn.Buffer(torch.tensor(SCALE)[:, None, None])

    def check_size(self, height: int, width: int) -> None:
        """Refuse frames of which the backbone's last layers would see nothing.

        Raises:
            TrivdError: they are too small.
        """
        if min(height, width) < self.backbone.smallest:
            raise TrivdError(
                f"LPIPS ({self.backbone.title}) needs frames of at least {self.backbone.smallest} pixels, but these "
                f"are {(height, width)}; set evaluation.lpips to none."
            )

    @torch.no_grad()
    def features(self, video: Tensor) -> list[Tensor]:
        """Features of every frame at the end of each stage, of length 1 at each place.

        Args:
            video: (B, T, C, H, W) in [-1, 1], C = 1 (repeated for the three colours) or 3.

        Returns:
            for each stage (B * T, channels, h, w), float32.

        Raises:
            TrivdError: the frames are too small.
        """
        self.check_size(*video.shape[-2:])
        stages = []
        with full_float32(video.device):
            features = (video.flatten(0, 1).float() - self.shift) / self.scale  # (N, 3, H, W)
            for stage, pooled in zip(self.backbone.stages, self.backbone.pooled, strict=True):
                if pooled:
                    features = F.max_pool2d(features, self.backbone.pool, stride=2)
                for convolution in stage:
                    name = f"features_{convolution.number}"
                    weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
                    features = F.conv2d(features, weight, bias, convolution.stride, convolution.padding).relu_()
                stages.append(features / (features.square().sum(dim=1, keepdim=True).sqrt() + EPSILON))
        return stages

    @torch.no_grad()
    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distance of frames by their features (Eq 1): (N,), from 0 on."""
        with full_float32(first[0].device):
            parts = [
                F.conv2d((a - b).square(), head).mean(dim=(1, 2, 3))
                for a, b, head in zip(first, second, self.heads, strict=True)
            ]
        return torch.stack(parts).sum(dim=0)

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Distance of every frame of videos (B, T, C, H, W) in [-1, 1]: (B, T); lower is better."""
        return self.distance(self.features(prediction), self.features(truth)).view(truth.shape[:2])


def _fixed(weights: NDArray[np.float32]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(weights), requires_grad=False)
