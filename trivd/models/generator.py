"""The generator G with its encoder E: frames and noise in, future frames out (A)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trivd.config import FIRST_RESOLUTION, ModelConfig
from trivd.models.blocks import GBlock
from trivd.models.encoder import Encoder
from trivd.models.frame_norm import Affine, FrameNormReLU, affine_maps
from trivd.models.layers import ClassEmbedding, SNConv
from trivd.models.recurrent import build_unit
from trivd.models.spectral_norm import normalized
from trivd.ops.precision import exact_dtype


class Prediction(NamedTuple):
    """A drawn future, and how the recurrent units warped."""

    video: Tensor  # (B, T, channels, R, R) in [-1, 1]
    warps: dict[int, Tensor]  # resolution -> warping weights (T, B, L, k^2, r, r), of units that warp, if asked


class Stage(nn.Module):
    """Recurrent unit -> 3x3 convolution -> G block -> G block with upsampling, at one resolution."""

    def __init__(self, config: ModelConfig, resolution: int, inputs: int, outputs: int) -> None:
        super().__init__()
        condition_dim = config.latent_dim + config.embedding_dim
        self.unit = build_unit(config, inputs, resolution) if resolution in config.recurrent_resolutions else None
        self.conv = SNConv(inputs, inputs)
        self.block = GBlock(config.predicted_frames, inputs, inputs, condition_dim, upsample=False)
        self.upsampling_block = GBlock(config.predicted_frames, inputs, outputs, condition_dim, upsample=True)

    def forward(
        self, x: Tensor, state: Tensor | None, affines: Mapping[FrameNormReLU, Affine], return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(T, B, in, r, r) -> (T, B, out, 2r, 2r) and the unit's warping weights, if any and asked."""
        weights = None
        if self.unit is not None:
            assert state is not None
            x, weights = self.unit.unroll(x, state, return_weights)
        h = self.conv(x.flatten(0, 1))
        h = self.upsampling_block(self.block(h, affines, len(x)), affines, len(x))
        return h.unflatten(0, x.shape[:2]), weights


class Generator(nn.Module):
    """G and E: draws `predicted_frames` frames that may follow `conditioning_frames` given ones.

    Channels where the paper is silent: see docs/choices.md.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        resolutions = config.generator_resolutions
        width = {r: config.channels_at(r) for r in resolutions}
        self.first_channels = width[FIRST_RESOLUTION]
        self.encoder = Encoder(config, {r: width[r] for r in config.recurrent_resolutions})
        self.embedding = ClassEmbedding(config.classes, config.embedding_dim)
        condition_dim = config.latent_dim + config.embedding_dim
        # The one layer without spectral normalisation (A).
        self.first = nn.Linear(condition_dim, self.first_channels * FIRST_RESOLUTION**2)
        nn.init.orthogonal_(self.first.weight)
        nn.init.zeros_(self.first.bias)
        self.stages = nn.ModuleList(Stage(config, r, width[r], width[2 * r]) for r in resolutions[:-1])
        last, units = width[config.resolution], config.recurrent_resolutions
        self.output_unit = build_unit(config, last, config.resolution) if config.resolution in units else None
        self.output_norm = FrameNormReLU(config.predicted_frames, last, None)
        self.output = SNConv(last, config.image_channels)

    @property
    def warps(self) -> bool:
        """Whether its recurrent units warp, so that predictions have motion fields."""
        return self.config.unit not in ("conv_gru", "conv_lstm", "dynamic_conv_lstm")

    def forward(
        self,
        frames: Tensor,
        z: Tensor,
        labels: Tensor | None = None,
        return_warps: bool = False,
        length: int | None = None,
    ) -> Prediction:
        """Draw one future per row of z.

        Args:
            frames: conditioning frames (B, C, channels, R, R) in [-1, 1].
            z: latent samples (B, latent_dim) from N(0, I).
            labels: classes (B,) int64; not read by a model without classes.
            return_warps: also return the warping weights of every unit that warps.
            length: T, how many frames to draw in training; None for `predicted_frames`.
        """
        return self.decode(self.encoder(frames), z, labels, return_warps, length)

    def decode(
        self,
        states: dict[int, Tensor],
        z: Tensor,
        labels: Tensor | None = None,
        return_warps: bool = False,
        length: int | None = None,
    ) -> Prediction:
        """Draw futures from E's states, which several samples of one clip may share; see `forward`."""
        if labels is None:
            labels = torch.zeros(z.shape[0], dtype=torch.int64, device=z.device)
        with normalized(*(part for part in self.children() if part is not self.encoder)):
            return self._decode(states, z, labels, return_warps, length or self.config.predicted_frames)

    def _decode(
        self, states: dict[int, Tensor], z: Tensor, labels: Tensor, return_warps: bool, length: int
    ) -> Prediction:
        condition = torch.cat([z, self.embedding(labels)], dim=1)
        affines = affine_maps(self, condition)
        x = self.first(condition).view(-1, self.first_channels, FIRST_RESOLUTION, FIRST_RESOLUTION)
        x = x.contiguous(memory_format=torch.channels_last).expand(length, *x.shape)
        warps: dict[int, Tensor] = {}
        for stage, resolution in zip(self.stages, self.config.generator_resolutions, strict=False):
            x, weights = stage(x, states.get(resolution), affines, return_warps)
            if weights is not None:
                warps[resolution] = weights
        if self.output_unit is not None:
            x, weights = self.output_unit.unroll(x, states[self.config.resolution], return_warps)
            if weights is not None:
                warps[self.config.resolution] = weights
        h = self.output_norm(x, affines[self.output_norm])  # and ReLU
        pixels = self.output(h.flatten(0, 1))
        video = torch.tanh(pixels.to(exact_dtype(pixels)))
        return Prediction(video.unflatten(0, h.shape[:2]).transpose(0, 1), warps)
