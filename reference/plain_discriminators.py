"""The plain networks' layers and discriminators, and how they take over weights of ours; see `reference.plain`.

Discriminators read the same views as ours and give the same scores.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from trivd.config import ModelConfig
from trivd.models.discriminators import BLOCKS, DECOMPOSITIONS, TEMPORAL_BLOCKS, Discriminators
from trivd.models.layers import ClassEmbedding
from trivd.models.spectral_norm import SpectralNorm

FRAME_VIEWS = ("frames", "small_frames")

# Where our layers have other names than the plain ones.
LAYER_NAMES = {
    "first.convolutions.kernel_features": "kernel_features",
    "first.convolutions.selection": "selection",
    "first.convolutions.u": "update",
    "first.convolutions.c": "candidate",
    "kernels.hidden": "hidden",
    "kernels.output": "output",
    "gates.convolutions.r": "reset",
    "gates.convolutions.u": "update",
    "candidate.convolutions.c": "candidate",
}
WEIGHT, LEFT, RIGHT = ("parametrizations.weight." + name for name in ("original", "0._u", "0._v"))  # of spectral_norm
NORMALIZED_NAMES = {"weight": WEIGHT, "left": LEFT, "right": RIGHT, "bias": "bias"}
# An embedding's weight is the transposed matrix, one row per class.
EMBEDDING_NAMES = {"weight": WEIGHT, "left": RIGHT, "right": LEFT}


def plain_state(ours: nn.Module) -> dict[str, Tensor]:
    """The weights, singular vectors and standing statistics of a network of ours, as its plain form names them."""
    state: dict[str, Tensor] = {}
    for name, value in ours.state_dict().items():
        path, _, kind = name.rpartition(".")
        layer = ours.get_submodule(path)
        for theirs, plain in LAYER_NAMES.items():
            path = path.replace(theirs, plain)
        if isinstance(layer, ClassEmbedding):
            state[f"{path}.{EMBEDDING_NAMES[kind]}"] = value.mT if kind == "weight" else value
        elif isinstance(layer, SpectralNorm):
            state[f"{path}.{NORMALIZED_NAMES[kind]}"] = value
        else:
            state[name] = value
    return state


def conv(inputs: int, outputs: int, size: int = 3, dimensions: int = 2) -> nn.Module:
    """With zero padding and spectral norm: one power iteration per forward in training."""
    kind = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return spectral_norm(kind(inputs, outputs, size, padding=size // 2))


def linear(inputs: int, outputs: int) -> nn.Module:
    """With spectral norm."""
    return spectral_norm(nn.Linear(inputs, outputs))


class PlainDBlock(nn.Module):
    """BigGAN's D block: (B, in, [T,] H, W) -> (B, out, [T,] H', W')."""

    def __init__(self, inputs: int, outputs: int, dimensions: int, activate: bool, pool: bool) -> None:
        super().__init__()
        self.activate = activate
        self.pool = pool
        self.conv1 = conv(inputs, outputs, 3, dimensions)
        self.conv2 = conv(outputs, outputs, 3, dimensions)
        self.shortcut = conv(inputs, outputs, 1, dimensions) if inputs != outputs else nn.Identity()

    def unpooled(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(x) if self.activate else x)
        total: Tensor = self.conv2(F.relu(h)) + self.shortcut(x)
        return total

    def forward(self, x: Tensor) -> Tensor:
        h = self.unpooled(x)
        if not self.pool:
            return h
        return F.avg_pool2d(h, 2) if h.dim() == 4 else F.avg_pool3d(h, (1, 2, 2))


def plain_blocks(inputs: int, width: int, depth: int, temporal: int, pooled: int) -> nn.ModuleList:
    """Of widths ch x (1, 2, 4, ...); the first `temporal` ones are 3D, the first `pooled` ones pool."""
    blocks = []
    for i in range(depth):
        outputs = width * 2**i
        blocks.append(PlainDBlock(inputs, outputs, 3 if i < temporal else 2, activate=i > 0, pool=i < pooled))
        inputs = outputs
    return nn.ModuleList(blocks)


class PlainScores(NamedTuple):
    """A discriminator's answers (B, T): from the video alone, and from the video and its class."""

    video: Tensor
    joint: Tensor


class PlainDiscriminator(nn.Module):
    """BigGAN's D on frames, or with 3D convolutions in its first blocks on clips: (B, T, channels, H, W) -> scores."""

    def __init__(self, image_channels: int, width: int, classes: int, temporal: bool) -> None:
        super().__init__()
        self.temporal = TEMPORAL_BLOCKS if temporal else 0
        self.blocks = plain_blocks(image_channels, width, BLOCKS, self.temporal, pooled=BLOCKS - 1)
        features = width * 2 ** (BLOCKS - 1)
        self.score = linear(features, 1)
        self.classes = classes
        self.embedding = spectral_norm(nn.Embedding(max(1, classes), features))

    def forward(self, video: Tensor, labels: Tensor) -> PlainScores:
        if self.classes == 0:
            labels = torch.zeros_like(labels)
        with parametrize.cached():
            clip = video.transpose(1, 2)  # (B, channels, T, H, W)
            for block in self.blocks[: self.temporal]:
                clip = block(clip)
            x = clip.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
            for block in self.blocks[self.temporal :]:
                x = block(x)
            features = F.relu(x).sum(dim=(2, 3)).unflatten(0, video.shape[:2])  # (B, T, C)
            joint = (features * self.embedding(labels).unsqueeze(1)).sum(dim=2)
            return PlainScores(self.score(features).squeeze(2), joint)


class PlainDiscriminators(nn.ModuleDict):
    """The discriminators of a decomposition, by the name of what each sees."""

    @classmethod
    def from_ours(cls, ours: Discriminators, model: ModelConfig) -> "PlainDiscriminators":
        """With the weights, singular vectors and mode of ours; `model` is the config that ours was built with."""
        views = DECOMPOSITIONS[ours.config.decomposition]
        plain = cls(
            {
                view: PlainDiscriminator(
                    model.image_channels, model.discriminator_channels, model.classes, view not in FRAME_VIEWS
                )
                for view in views
            }
        )
        plain.to(next(ours.parameters()))  # device and type
        plain.load_state_dict(plain_state(ours))
        return plain.train(ours.training)
