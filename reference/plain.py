"""TrIVD-GAN-FP's generator written plainly with PyTorch's own modules: a peer in benchmarks, an oracle in tests.

Every convolution is called where the paper has it: nothing is folded, split by linearity or deferred.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from reference.peers import PlainConvGRU, sliced_warp
from reference.plain_discriminators import conv, linear, plain_blocks, plain_state
from trivd.config import FIRST_RESOLUTION, ModelConfig
from trivd.models.generator import Generator
from trivd.runtime.errors import TrivdError


class PlainTSRU(nn.Module):
    """The parallel TSRU with factorized warping (Eq 6-10, 12), one convolution of [h; x] for each gate at each step.

    Args:
        channels: of x and of the state.
        kernel_size: of the convolutions.
        warp_size: k of the warp.
    """

    def __init__(self, channels: int, kernel_size: int, warp_size: int) -> None:
        super().__init__()
        self.taps = warp_size**2
        self.kernel_features = conv(2 * channels, channels, kernel_size)
        self.selection = conv(2 * channels, self.taps, kernel_size)
        self.update = conv(2 * channels, channels, kernel_size)
        self.candidate = conv(2 * channels, channels, kernel_size)
        self.hidden = linear(16 * channels, 8 * channels)
        self.output = linear(8 * channels, self.taps**2)

    def forward(self, x: Tensor, initial: Tensor) -> Tensor:
        """x (T, B, C, H, W), initial (B, C, H, W) -> states (T, B, C, H, W)"""
        h, states = initial, []
        with parametrize.cached():
            for x_t in x:
                both = torch.cat([h, x_t], dim=1)
                warped = sliced_warp(h, self.warping_weights(both))
                u = torch.sigmoid(self.update(both))
                c = F.relu(self.candidate(both))
                h = u * warped + (1 - u) * c
                states.append(h)
        return torch.stack(states)

    def warping_weights(self, both: Tensor) -> Tensor:
        """(B, 2 C, H, W) -> (B, k^2, H, W)"""
        features = F.adaptive_max_pool2d(F.relu(self.kernel_features(both)), 4).flatten(1)
        kernels = self.output(F.relu(self.hidden(features))).view(-1, self.taps, self.taps).softmax(dim=2)
        selection = self.selection(both).softmax(dim=1)
        return torch.einsum("bnhw,bnk->bkhw", selection, kernels)  # Eq 12


def build_plain_unit(config: ModelConfig, channels: int) -> nn.Module:
    """The unit `config.unit`, of `channels` inputs and hidden channels.

    Raises:
        TrivdError: it is not among those that are written out here.
    """
    if config.unit not in ("conv_gru", "tsru_p") or config.read_gate or config.activation == "tanh":
        raise TrivdError(
            "The plain network has the units conv_gru and tsru_p as in the paper; set model.unit to one of them, and "
            "leave model.read_gate and model.activation as they are."
        )
    if config.unit == "conv_gru":
        return PlainConvGRU(channels, channels, config.kernel_size)
    return PlainTSRU(channels, config.kernel_size, config.warp_size)


class PlainNorm(nn.Module):
    """Batch normalisation with statistics for each time step: in training the batch's, else the standing ones.

    Args:
        frames: T.
        channels: of the features.
        condition_dim: of what scale and offset are affine maps of; None: both learned.
    """

    standing_mean: Tensor
    standing_variance: Tensor

    def __init__(self, frames: int, channels: int, condition_dim: int | None) -> None:
        super().__init__()
        self.frames = frames
        self.register_buffer("standing_mean", torch.full((frames, channels), float("nan")))
        self.register_buffer("standing_variance", torch.full((frames, channels), float("nan")))
        self.scale: nn.Module | nn.Parameter
        self.offset: nn.Module | nn.Parameter
        if condition_dim is None:
            self.scale = nn.Parameter(torch.ones(channels))
            self.offset = nn.Parameter(torch.zeros(channels))
        else:
            self.scale = linear(condition_dim, channels)
            self.offset = linear(condition_dim, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B T, C, H, W), (B, condition_dim) -> (B T, C, H, W)"""
        videos = x.unflatten(0, (-1, self.frames))  # (B, T, C, H, W)
        channels = videos.flatten(1, 2)  # every time step has channels of its own: (B, T C, H, W)
        if self.training:
            y = F.batch_norm(channels, None, None, training=True)
        else:
            y = F.batch_norm(channels, self.standing_mean.flatten(), self.standing_variance.flatten())
        y = y.view(videos.shape)
        if isinstance(self.scale, Tensor):
            y = y * self.scale[:, None, None] + self.offset[:, None, None]  # type: ignore[index]
        else:
            scale, offset = 1 + self.scale(condition), self.offset(condition)  # type: ignore[operator]
            y = y * scale[:, None, :, None, None] + offset[:, None, :, None, None]
        return y.flatten(0, 1)


class PlainGBlock(nn.Module):
    """BigGAN's G block: (B T, in, H, W) -> (B T, out, H', W'), H' = 2 H where it upsamples."""

    def __init__(self, frames: int, inputs: int, outputs: int, condition_dim: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.norm1 = PlainNorm(frames, inputs, condition_dim)
        self.conv1 = conv(inputs, outputs)
        self.norm2 = PlainNorm(frames, outputs, condition_dim)
        self.conv2 = conv(outputs, outputs)
        self.shortcut = conv(inputs, outputs, 1) if upsample or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = F.relu(self.norm1(x, condition))
        if self.upsample:
            h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        h = self.conv1(h)
        h = self.conv2(F.relu(self.norm2(h, condition)))
        total: Tensor = h + self.shortcut(x)
        return total


class PlainEncoder(nn.Module):
    """E: frames (B, C, channels, R, R) -> {resolution: first state (B, channels there, r, r)}."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, units = config.discriminator_channels, config.recurrent_resolutions
        depth = max(1, int(math.log2(config.resolution // min(units))))
        self.blocks = plain_blocks(config.image_channels, width, depth, temporal=0, pooled=depth)
        # The output resolution and the one below both belong to the first block, before and after its pooling.
        features = {r: width * max(1, config.resolution // (2 * r)) for r in units}
        self.compress = nn.ModuleDict(
            {str(r): conv(config.conditioning_frames * features[r], config.channels_at(r)) for r in units}
        )

    def forward(self, frames: Tensor) -> dict[int, Tensor]:
        with parametrize.cached():
            x, features = frames.flatten(0, 1), {}
            for index, block in enumerate(self.blocks):
                x = block.unpooled(x)  # type: ignore[operator]
                if index == 0:
                    features[self.config.resolution] = x
                x = F.avg_pool2d(x, 2)
                features[x.shape[-1]] = x
            states = {}
            for r in self.config.recurrent_resolutions:
                folded = features[r].unflatten(0, (-1, self.config.conditioning_frames)).flatten(1, 2)
                states[r] = F.relu(self.compress[str(r)](folded))
            return states


class PlainStage(nn.Module):
    """Recurrent unit -> 3x3 convolution -> G block -> G block with upsampling."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        frames, condition_dim = config.predicted_frames, config.latent_dim + config.embedding_dim
        inputs, outputs = config.channels_at(resolution), config.channels_at(2 * resolution)
        self.unit = build_plain_unit(config, inputs) if resolution in config.recurrent_resolutions else None
        self.conv = conv(inputs, inputs)
        self.block = PlainGBlock(frames, inputs, inputs, condition_dim, upsample=False)
        self.upsampling_block = PlainGBlock(frames, inputs, outputs, condition_dim, upsample=True)

    def forward(self, x: Tensor, states: dict[int, Tensor], condition: Tensor) -> Tensor:
        """(B, T, in, r, r) -> (B, T, out, 2r, 2r)"""
        if self.unit is not None:
            x = run_over_time(self.unit, x, states[self.resolution])
        h = self.block(self.conv(x.flatten(0, 1)), condition)
        video: Tensor = self.upsampling_block(h, condition).unflatten(0, x.shape[:2])
        return video


def run_over_time(unit: nn.Module, x: Tensor, initial: Tensor) -> Tensor:
    """(B, T, C, H, W) through a unit that takes (T, B, C, H, W)."""
    states: Tensor = unit(x.transpose(0, 1), initial)
    return states.transpose(0, 1)


class PlainGenerator(nn.Module):
    """G with E, the same function as `trivd.models.generator.Generator`.

    Raises:
        TrivdError: the unit of `config` is not among those that are written out here.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PlainEncoder(config)
        self.embedding = spectral_norm(nn.Embedding(max(1, config.classes), config.embedding_dim))
        condition_dim, first = config.latent_dim + config.embedding_dim, config.channels_at(FIRST_RESOLUTION)
        self.first = nn.Linear(condition_dim, first * FIRST_RESOLUTION**2)
        self.stages = nn.ModuleList(PlainStage(config, r) for r in config.generator_resolutions[:-1])
        last, units = config.channels_at(config.resolution), config.recurrent_resolutions
        self.output_unit = build_plain_unit(config, last) if config.resolution in units else None
        self.output_norm = PlainNorm(config.predicted_frames, last, None)
        self.output = conv(last, config.image_channels)

    @classmethod
    def from_ours(cls, ours: Generator) -> "PlainGenerator":
        """With the weights, singular vectors, standing statistics and mode of ours."""
        plain = cls(ours.config).to(ours.first.weight)  # device and type
        plain.load_state_dict(plain_state(ours))
        return plain.train(ours.training)

    def forward(self, frames: Tensor, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Frames (B, C, channels, R, R), z (B, latent_dim), labels (B,) -> video (B, T, channels, R, R)."""
        return self.decode(self.encoder(frames), z, labels)

    def decode(self, states: dict[int, Tensor], z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The same from E's states."""
        if labels is None or self.config.classes == 0:
            labels = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        with parametrize.cached():
            condition = torch.cat([z, self.embedding(labels)], dim=1)
            x = self.first(condition).view(len(z), 1, -1, FIRST_RESOLUTION, FIRST_RESOLUTION)
            x = x.repeat(1, self.config.predicted_frames, 1, 1, 1)
            for stage in self.stages:
                x = stage(x, states, condition)
            if self.output_unit is not None:
                x = run_over_time(self.output_unit, x, states[self.config.resolution])
            h = F.relu(self.output_norm(x.flatten(0, 1), condition))
            return torch.tanh(self.output(h)).unflatten(0, x.shape[:2])
