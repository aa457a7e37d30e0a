"""The generator G with its encoder E: given frames and noise in, future frames out (A)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from reference.blocks import FrameNorm, GBlock, average_pool, discriminator_blocks
from reference.layers import ClassEmbedding, conv, framewise, normalized
from reference.units import build_unit
from trivd.config import FIRST_RESOLUTION, ModelConfig


class Encoder(nn.Module):
    """E: frames (B, C, channels, R, R) -> the first state of the unit at each resolution, {r: (B, channels, r, r)}.

    The frame discriminator's blocks see each frame on its own; then all frames' features, side by side, are compressed.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, units = config.discriminator_channels, config.recurrent_resolutions
        depth = max(1, int(math.log2(config.resolution // min(units))))
        self.blocks = discriminator_blocks(config.image_channels, width, depth, pooled=depth)
        # The output resolution and half of it both belong to the first block: before and after its pooling.
        features = {r: width * max(1, config.resolution // (2 * r)) for r in units}
        self.compress = nn.ModuleDict(
            {str(r): conv(config.conditioning_frames * features[r], config.channels_at(r)) for r in units}
        )

    def forward(self, frames: Tensor) -> dict[int, Tensor]:
        with parametrize.cached():  # weights are normalised once
            x, features = frames.flatten(0, 1), {}  # (B C, channels, R, R)
            for index, block in enumerate(self.blocks):
                x = block.unpooled(x)  # type: ignore[operator]
                if index == 0:
                    features[self.config.resolution] = x
                x = average_pool(x)
                features[x.shape[-1]] = x
            states = {}
            for r in self.config.recurrent_resolutions:
                side_by_side = features[r].unflatten(0, frames.shape[:2]).flatten(1, 2)
                states[r] = F.relu(self.compress[str(r)](side_by_side))
            return states


class Stage(nn.Module):
    """Recurrent unit -> 3x3 convolution -> block -> block that upsamples: (T, B, in, r, r) -> (T, B, out, 2r, 2r)."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        frames, condition_dim = config.predicted_frames, config.latent_dim + config.embedding_dim
        inputs, outputs = config.channels_at(resolution), config.channels_at(2 * resolution)
        units = config.recurrent_resolutions
        self.unit = build_unit(config, inputs, inputs, resolution) if resolution in units else None
        self.conv = conv(inputs, inputs)
        self.block = GBlock(frames, inputs, inputs, condition_dim, upsample=False)
        self.upsampling_block = GBlock(frames, inputs, outputs, condition_dim, upsample=True)

    def forward(self, x: Tensor, states: dict[int, Tensor], condition: Tensor) -> Tensor:
        if self.unit is not None:
            x = self.unit(x, states[x.shape[-1]])
        x = framewise(self.conv, x)
        x = self.block(x, condition)
        return self.upsampling_block(x, condition)


class Generator(nn.Module):
    """G and E: one future of `predicted_frames` frames for each row of z."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.embedding = normalized(ClassEmbedding(max(1, config.classes), config.embedding_dim))
        condition_dim, width = config.latent_dim + config.embedding_dim, config.channels_at(FIRST_RESOLUTION)
        self.first = nn.Linear(condition_dim, width * FIRST_RESOLUTION**2)  # the one without spectral normalisation
        nn.init.orthogonal_(self.first.weight)
        nn.init.zeros_(self.first.bias)
        self.stages = nn.ModuleList(Stage(config, r) for r in config.generator_resolutions[:-1])
        last, units = config.channels_at(config.resolution), config.recurrent_resolutions
        self.output_unit = build_unit(config, last, last, config.resolution) if config.resolution in units else None
        self.output_norm = FrameNorm(config.predicted_frames, last, None)
        self.output = conv(last, config.image_channels)

    def forward(self, frames: Tensor, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Frames (B, C, channels, R, R) in [-1, 1], z (B, latent_dim), labels (B,) -> video (B, T, channels, R, R)."""
        return self.decode(self.encoder(frames), z, labels)

    def decode(self, states: dict[int, Tensor], z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The same from E's states."""
        if labels is None:
            labels = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        with parametrize.cached():
            condition = torch.cat([z, self.embedding(labels)], dim=1)
            x = self.first(condition).view(len(z), -1, FIRST_RESOLUTION, FIRST_RESOLUTION)
            x = torch.stack([x] * self.config.predicted_frames)  # (T, B, C, 8, 8)
            for stage in self.stages:
                x = stage(x, states, condition)
            if self.output_unit is not None:
                x = self.output_unit(x, states[self.config.resolution])
            x = F.relu(self.output_norm(x, condition))
            return torch.tanh(framewise(self.output, x)).transpose(0, 1)
