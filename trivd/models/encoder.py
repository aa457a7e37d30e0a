"""The encoder E: from conditioning frames to the recurrent units' first states (A)."""

import math

from torch import Tensor, nn

from trivd.config import ModelConfig
from trivd.models.blocks import discriminator_blocks
from trivd.models.layers import SNConv
from trivd.models.spectral_norm import normalized
from trivd.ops.average import average_pool
from trivd.ops.residual import relu


class Encoder(nn.Module):
    """The frame discriminator's network on each conditioning frame, down to the coarsest recurrent unit's resolution.

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
        self.blocks = discriminator_blocks(config.image_channels, width, depth, pooled=depth)
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
        with normalized(self):
            return self._states(frames.flatten(0, 1))

    def _states(self, x: Tensor) -> dict[int, Tensor]:
        """States for frames (B C, channels, R, R)."""
        states: dict[int, Tensor] = {}
        for block in self.blocks:
            if x.shape[-1] == self.config.resolution and str(x.shape[-1]) in self.compress:
                unpooled = block.unpooled(x)  # type: ignore[operator]
                states[x.shape[-1]] = self._compress(unpooled)
                x = average_pool(unpooled)
            else:
                x = block(x)
            if str(x.shape[-1]) in self.compress:
                states[x.shape[-1]] = self._compress(x)
        return states

    def _compress(self, features: Tensor) -> Tensor:
        """(B C, features, r, r) -> (B, channels there, r, r)."""
        folded = features.unflatten(0, (-1, self.config.conditioning_frames)).flatten(1, 2)
        layer: SNConv = self.compress[str(features.shape[-1])]  # type: ignore[assignment]
        return relu(layer.unbiased(folded))
