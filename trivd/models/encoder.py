"""The encoder E: from conditioning frames to the recurrent units' first states (A)."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from trivd.config import ModelConfig
from trivd.models.blocks import critic_blocks, pool_space
from trivd.models.layers import SNConv


class Encoder(nn.Module):
    """The frame critic's network on each conditioning frame, down to the coarsest recurrent unit's resolution.

    For every unit, the features at its resolution, time folded into channels, go through one 3x3 convolution and ReLU.
    A unit at the output resolution reads the first block's features before their pooling.

    Args:
        config: of the model.
        channels: resolution -> channels of the state of the unit there.
    """

    def __init__(self, config: ModelConfig, channels: dict[int, int]) -> None:
        super().__init__()
        self.config = config
        width = config.discriminator_channels
        depth = max(1, int(math.log2(config.resolution // min(channels))))
        self.blocks = critic_blocks(config.image_channels, width, depth, temporal=0, pooled=depth)
        self.compress = nn.ModuleDict()
        for resolution, states in channels.items():
            block = max(1, int(math.log2(config.resolution // resolution)))  # counted from 1
            features = width * 2 ** (block - 1)
            self.compress[str(resolution)] = SNConv(config.conditioning_frames * features, states)

    def forward(self, frames: Tensor) -> dict[int, Tensor]:
        """(B, C, channels, R, R) in [-1, 1] -> {resolution: state (B, channels there, r, r)}."""
        config = self.config
        expected = (config.conditioning_frames, config.image_channels, config.resolution, config.resolution)
        if frames.shape[1:] != expected:
            raise ValueError(f"E takes frames (B, {', '.join(map(str, expected))}), not {tuple(frames.shape)}")
        x = frames.flatten(0, 1)
        states: dict[int, Tensor] = {}
        for block in self.blocks:
            unpooled = block.unpooled(x)  # type: ignore[operator]
            x = pool_space(unpooled)
            for features in (unpooled, x):
                name = str(features.shape[-1])
                # A block's features before pooling are read at the output resolution alone.
                if name in self.compress and (features is x or features.shape[-1] == self.config.resolution):
                    folded = features.unflatten(0, (-1, self.config.conditioning_frames)).flatten(1, 2)
                    states[features.shape[-1]] = F.relu(self.compress[name](folded))
        return states
