"""Model + frames -> futures: what `trivd.load` returns."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivd.config import Config, from_dict
from trivd.data.frames import FrameConverter
from trivd.errors import TrivdError
from trivd.evaluation.scores import clip_latents
from trivd.hardware import autocast, choose_device, choose_precision
from trivd.models.frame_norm import FrameNorm
from trivd.models.generator import Generator
from trivd.models.normalization import normalized, normalized_now, use_normalized
from trivd.models.pretrained import find_model, load_generator, save_generator
from trivd.motion import motion_field
from trivd.video import to_float, to_uint8

Pixels = NDArray[np.uint8]


class Futures(NamedTuple):
    """What was drawn."""

    video: Pixels  # (samples, T, H, W, C) uint8
    motion: Tensor | None  # backward flow (T, samples, 2, H, W) in pixels, of units that warp; None if not asked


class Predictor:
    """A trained generator that draws futures of a clip.

    Args:
        generator: in evaluation mode, with standing statistics.
        history: where its weights come from.
    """

    def __init__(self, generator: Generator, history: dict[str, Any]) -> None:
        norm = next(module for module in generator.modules() if isinstance(module, FrameNorm))
        if norm.standing_mean.isnan().any():
            raise TrivdError("This model has no standing statistics; save it with trivd train.")
        self.generator = generator
        self.config = generator.config
        self.history = history
        self.device = next(generator.parameters()).device
        self.dtype = choose_precision("auto", self.device)
        with torch.no_grad(), normalized(generator):
            self.weights = normalized_now()  # once for all futures

    @property
    def trained_with(self) -> Config:
        """The settings of its training; those of the model are what was measured against the weights.

        Raises:
            TrivdError: its description names others.
        """
        config = from_dict(Config, self.history["config"], "the model's history")
        return replace(config, model=self.config)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "auto") -> "Predictor":
        """Load a model.

        Args:
            name: as `trivd.models.pretrained.find_model` takes it: a folder, a bundled model, or one of the hub.
            device: auto, cpu, cuda, ...

        Raises:
            TrivdError: there is no such model, or its files are damaged.
        """
        return cls(*load_generator(find_model(name), choose_device(device)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors.

        Raises:
            TrivdError: the folder has a model already.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise TrivdError(f"{folder} is not empty; choose another folder for the model.")
        save_generator(self.generator, folder, self.history)

    def fit(self, frames: Pixels) -> Pixels:
        """Frames (T, H, W, C) of any size and 1 or 3 channels as the model takes them: resized, centre-cropped.

        Raises:
            TrivdError: these are not uint8 frames.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] not in (1, 3):
            raise TrivdError(f"Frames must be uint8 (T, H, W, 1 or 3), not {frames.dtype} {frames.shape}.")
        size = self.config.resolution
        if frames.shape[1:] == (size, size, self.config.image_channels):
            return frames
        converter = FrameConverter(size, self.config.image_channels)
        resized = np.stack([converter.array(frame) for frame in frames])
        top, left = (resized.shape[1] - size) // 2, (resized.shape[2] - size) // 2
        return resized[:, top : top + size, left : left + size]

    def predict(
        self,
        past: Pixels,
        samples: int = 1,
        truncation: float | None = None,
        seed: int = 0,
        frames: int | None = None,
        label: int = 0,
    ) -> Pixels:
        """Futures of a clip, (samples, T, H, W, C) uint8; see `draw`."""
        return self.draw(past, samples, truncation, seed, frames, label, motion=False).video

    @torch.no_grad()
    def draw(
        self,
        past: Pixels,
        samples: int,
        truncation: float | None,
        seed: int,
        frames: int | None,
        label: int,
        motion: bool,
    ) -> Futures:
        """Futures of a clip, and the motion the model saw in them.

        Args:
            past: frames (T', H, W, C) uint8, T' >= C; the last C frames count. Any size, see `fit`.
            samples: how many futures.
            truncation: of z: 0.8 is moderate (D.1), 0 draws the one future of z = 0, None all of N(0, I).
            seed: of z.
            frames: frames of each future; None for the model's T. Longer ones go on from its own last C frames.
            label: class, for models with classes.
            motion: whether to return motion fields.

        Raises:
            TrivdError: too few frames, or values out of range.
        """
        given, chunk = self.config.conditioning_frames, self.config.predicted_frames
        count = chunk if frames is None else frames
        if len(past) < given:
            raise TrivdError(f"The model needs {given} frames to start from, but there are {len(past)}.")
        if samples < 1 or count < 1:
            raise TrivdError(f"Cannot draw {samples} samples of {count} frames; both must be at least 1.")
        if seed < 0 or (truncation is not None and truncation < 0):
            raise TrivdError(f"Seed {seed} and truncation {truncation} must not be negative.")
        if not 0 <= label < max(1, self.config.classes):
            raise TrivdError(f"Class {label} is unknown: the model has {self.config.classes} classes.")
        seen = to_float(self.fit(past[-given:])).to(self.device)
        seen = seen.expand(samples, *seen.shape)  # (samples, C, channels, R, R)
        labels = torch.full((samples,), label, device=self.device)
        videos, flows = [], []
        for part in range(-(-count // chunk)):
            z = clip_latents(part, samples, self.config.latent_dim, seed, truncation).to(self.device)
            with use_normalized(self.weights), autocast(self.device, self.dtype):
                video, warps = self.generator(seen, z, labels, return_warps=motion)
            if motion:
                flows.append(motion_field({r: w.float() for r, w in warps.items()}, self.config.resolution))
            videos.append(video)
            seen = torch.cat([seen, video], dim=1)[:, -given:]
        video = to_uint8(torch.cat(videos, dim=1)[:, :count])
        return Futures(video, torch.cat(flows)[:count].cpu() if motion else None)
