"""A trained generator whose weights no longer change: what predicts and is evaluated."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from trivd.models.generator import Generator, Prediction
from trivd.models.spectral_norm import SpectralNorm, normalized, normalized_now, use_normalized
from trivd.ops.precision import compute_dtype
from trivd.runtime.graphs import GraphedPerSize, Record
from trivd.runtime.hardware import autocast


class FixedGenerator:
    """A generator that is called often: weights are normalised and rounded once, and a GPU replays CUDA graphs.

    E and G have graphs of their own for each batch size, since samples of one clip share E's states.

    Args:
        generator: in evaluation mode; neither its weights nor its statistics change from now on.
        dtype: of convolutions.
        record: how graphs are recorded, see `trivd.runtime.graphs.recorder`; None: without graphs.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype, record: Record | None) -> None:
        self.dtype = dtype
        device = next(generator.parameters()).device
        self.record = record
        with torch.no_grad(), autocast(device, dtype), normalized(generator):
            weights = {
                layer: weight if layer.exact else weight.to(compute_dtype(weight))
                for layer, weight in normalized_now().items()
            }
        network = _Network(generator, weights, dtype)
        self.resolutions = network.resolutions
        self._encode = self._graphed(network.encode)
        self._decode = {warps: self._graphed(partial(network.decode, warps)) for warps in (False, True)}

    def _graphed(self, function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
        return function if self.record is None else GraphedPerSize(function, self.record)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> dict[int, Tensor]:
        """E's states of clips (B, C, channels, R, R) in [-1, 1], by resolution; see `Generator.decode`."""
        return dict(zip(self.resolutions, self._encode(frames), strict=True))

    @torch.no_grad()
    def decode(self, states: Mapping[int, Tensor], z: Tensor, labels: Tensor, return_warps: bool = False) -> Prediction:
        """Draw one future per row of z (B, latent_dim) and labels (B,); see `Generator.decode`."""
        video, *warps = self._decode[return_warps](z, labels, *(states[r] for r in self.resolutions))
        return Prediction(video, dict(zip(self.resolutions, warps, strict=False)))  # there may be none

    @torch.no_grad()
    def __call__(self, frames: Tensor, z: Tensor, labels: Tensor, return_warps: bool = False) -> Prediction:
        """Draw one future per row of z (B, latent_dim) and labels (B,).

        Args:
            frames: of B clips, or of the one clip that they all continue, (B or 1, C, channels, R, R) in [-1, 1].
            z: latent samples.
            labels: classes.
            return_warps: also return the warping weights of every unit that warps.
        """
        samples = len(z)
        if self.record is None:  # a CPU rounds a batch of equal clips in another way than one of them
            frames = frames.expand(samples, -1, -1, -1, -1)
        states = {
            r: state.expand(samples, -1, -1, -1).contiguous(memory_format=torch.channels_last)
            if len(state) < samples
            else state
            for r, state in self.encode(frames).items()
        }
        return self.decode(states, z, labels, return_warps)


class _Network:
    """E and G as functions of tensors alone."""

    def __init__(self, generator: Generator, weights: Mapping[SpectralNorm, Tensor], dtype: torch.dtype) -> None:
        self.generator = generator
        self.weights = weights  # normalised, in the types in which they are used
        self.dtype = dtype
        self.device = next(generator.parameters()).device
        self.resolutions = tuple(sorted(generator.config.recurrent_resolutions))

    def encode(self, frames: Tensor) -> tuple[Tensor, ...]:
        """The state at each resolution."""
        with use_normalized(self.weights), autocast(self.device, self.dtype):
            states = self.generator.encoder(frames)
        return tuple(states[r] for r in self.resolutions)

    def decode(self, return_warps: bool, z: Tensor, labels: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The video, then the warping weights at each resolution, if there are any and they are asked for."""
        by_resolution = dict(zip(self.resolutions, states, strict=True))
        with use_normalized(self.weights), autocast(self.device, self.dtype):
            video, warps = self.generator.decode(by_resolution, z, labels, return_warps)
        return video, *warps.values()
