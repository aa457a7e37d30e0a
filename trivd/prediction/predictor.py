"""Model + frames -> futures: what `trivd.load` returns."""

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trivd.config import DEFAULT_LIMITS, Config, EvaluationConfig, MotionLevels, VideoLimits, chosen_levels, from_dict
from trivd.data.formats.decode import VideoFile, first_frames
from trivd.data.formats.frames import FrameConverter
from trivd.data.source import span_of
from trivd.evaluation.fixed import FixedGenerator
from trivd.evaluation.scorer import clip_latents
from trivd.models.frame_norm import FrameNormReLU
from trivd.models.generator import Generator
from trivd.models.motion import motion_field
from trivd.models.pretrained import find_model, load_generator, save_generator
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder
from trivd.runtime.graphs import recorder
from trivd.runtime.hardware import choose_device, choose_precision
from trivd.runtime.pixels import Frames, Pixels, as_pixels, to_float, to_uint8


class Futures(NamedTuple):
    """Futures of one clip."""

    video: Pixels  # (samples, T, H, W, C) uint8
    motion: Tensor | None  # backward flow (T, samples, 2, H, W) in pixels, of units that warp; None if not asked


class Predictor:
    """A trained generator that draws futures of a clip.

    Args:
        generator: in evaluation mode, with standing statistics.
        history: where its weights come from.
    """

    def __init__(self, generator: Generator, history: dict[str, Any]) -> None:
        norm = next(module for module in generator.modules() if isinstance(module, FrameNormReLU))
        if norm.standing_mean.isnan().any():
            raise TrivdError("This model has no standing statistics; save it with trivd train.")
        self.generator = generator
        self.config = generator.config
        self.history = history
        self.device = next(generator.parameters()).device
        self.dtype = choose_precision("auto", self.device)
        self.record = recorder(self.device)  # how the CUDA graphs are recorded that draw futures; None: without graphs
        self._fixed = FixedGenerator(generator, self.dtype, self.record)

    @property
    def trained_with(self) -> Config:
        """The settings of its training; those of the model are what was measured against the weights.

        Raises:
            TrivdError: its description names others.
        """
        config = from_dict(Config, self.history["config"], "the model's history")
        return replace(config, model=self.config)

    @property
    def motion_levels(self) -> tuple[int, ...] | None:
        """The levels of its motion field unless others are asked for; None for units that do not warp."""
        if not self.generator.warps:
            return None
        return chosen_levels(self.trained_with.evaluation.motion_levels, self.config.recurrent_resolutions)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "auto") -> "Predictor":
        """Load a model.

        Args:
            name: as `trivd.models.pretrained.find_model` takes it: a folder, a bundled model, or one of the hub.
            device: auto, cpu, cuda, ...

        Raises:
            TrivdError: there is no such model, or its files are damaged.
        """
        return cls(*load_generator(find_model(name), choose_device(device, "device")))

    @property
    def statistics_truncation(self) -> float | None:
        """The truncation of z at which the model's standing statistics were collected.

        Raises:
            TrivdError: see `trained_with`.
        """
        return self.trained_with.evaluation.truncation

    def statistics_note(self, truncation: float | None, name: str) -> list[str]:
        """A sentence if z is drawn at another truncation than the standing statistics were collected at.

        Args:
            truncation: of z.
            name: of the model.
        """
        collected = self.statistics_truncation
        if truncation == collected:
            return []
        return [
            f"z is drawn {_at(truncation)}, but the standing statistics of {name} were collected {_at(collected)}; "
            "`trivd evaluate --save-model` writes a model with others."
        ]

    def with_statistics_of(self, settings: EvaluationConfig) -> "Predictor":
        """This model, whose standing statistics were collected anew as `settings` says; its history then says so."""
        names = ("truncation", "standing_batches", "standing_batch_size")
        collected = {name: getattr(settings, name) for name in names}
        config = self.history["config"]
        history = self.history | {"config": config | {"evaluation": config["evaluation"] | collected}}
        return Predictor(self.generator, history)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors.

        Raises:
            TrivdError: the folder cannot be written, or holds something already.
        """
        folder = Path(folder)
        check_output_folder(folder, "choose another folder for the model", empty=True)
        save_generator(self.generator, folder, self.history)

    def fit(self, frames: Frames) -> Pixels:
        """Frames (T, H, W, C) of any size and 1 or 3 channels as the model takes them: resized, centre-cropped.

        Raises:
            TrivdError: these are not the frames of a clip, see `trivd.runtime.pixels.as_pixels`.
        """
        frames = as_pixels(frames)
        size = self.config.resolution
        if frames.shape[1:] == (size, size, self.config.image_channels):
            return frames
        converter = FrameConverter(size, self.config.image_channels)
        resized = np.stack([converter.array(frame) for frame in frames])
        top, left = (resized.shape[1] - size) // 2, (resized.shape[2] - size) // 2
        return resized[:, top : top + size, left : left + size]

    def read(
        self, clip: Path, start: int | None, frames: int, limits: VideoLimits = DEFAULT_LIMITS
    ) -> tuple[Pixels, Pixels]:
        """The given frames (C, R, R, channels) of a clip, and those of the `frames` that follow which it has.

        They keep the rate and the stride that the model was trained with.

        Args:
            clip: a video, a folder of images, or an array.
            start: number of the first given frame, at that rate; None: the last C frames of the clip, so that none is
                left for truth.
            frames: how many frames follow at most.
            limits: of what the clip may ask of the machine.

        Raises:
            TrivdError: the clip cannot be read, or is too short.
        """
        config, data = self.config, self.trained_with.data
        stride, video_file = data.stride, VideoFile(clip, limits, data.fps)
        info = video_file.probe()
        span = span_of(config.conditioning_frames, stride)
        if info.frames < span:
            raise TrivdError(f"{clip} has {info.frames} frames; the model needs {span} to start from.")
        first = info.frames - span if start is None else start
        if not 0 <= first <= info.frames - span:
            raise TrivdError(
                f"--start {first} leaves fewer than {span} frames of {clip}; it may be 0 to {info.frames - span}."
            )
        count = min(config.conditioning_frames + frames, (info.frames - 1 - first) // stride + 1)
        video = self.fit(
            first_frames(
                video_file,
                first,
                count,
                stride,
                short_side=config.resolution,
                channels=config.image_channels,
            )
        )
        return video[: config.conditioning_frames], video[config.conditioning_frames :]

    def predict(  # noqa: PLR0917  # of the public interface since the first version
        self,
        past: Frames | str | os.PathLike[str],
        samples: int = 1,
        truncation: float | None = None,
        seed: int | None = 0,
        frames: int | None = None,
        label: int = 0,
    ) -> Pixels:
        """Futures of a clip, (samples, T, H, W, C) uint8.

        Args:
            past: frames, see `draw`; or the path of a clip, whose last frames are given as `trivd predict` gives them.
            samples: how many futures.
            truncation: of z: 0.8 is moderate (D.1), 0 draws the one future of z = 0, None all of N(0, I). The standing
                statistics remain those of `statistics_truncation`.
            seed: of z; None draws other futures each time.
            frames: of each future; None for the model's T. Longer ones continue from their own last C frames.
            label: class, for models with classes.

        Raises:
            TrivdError: see `draw`; or the clip cannot be read.
        """
        if isinstance(past, str | os.PathLike):
            past, _ = self.read(Path(past), None, 0)
        return self.draw(past, Sampling(samples, truncation, seed, frames, label)).video

    @torch.no_grad()
    def draw(self, past: Frames, sampling: Sampling, motion: MotionLevels | None = None) -> Futures:
        """Futures of a clip, and the motion the model saw in them.

        Args:
            past: frames (T', H, W, C) uint8, T' >= C, or a list of frames, see
                `trivd.runtime.pixels.as_pixels`; the last C frames count. Any size, see `fit`.
            sampling: which futures.
            motion: levels of the motion fields to return; None: no motion fields.

        Raises:
            TrivdError: these are not the frames of a clip, or too few of them, or values out of range; or the model has
                no such motion field.
        """
        given, chunk = self.config.conditioning_frames, self.config.predicted_frames
        shown = as_pixels(past)
        if len(shown) < given:
            raise TrivdError(f"The model needs {given} frames to start from, but there are {len(shown)}.")
        samples, frames, seed, label = sampling.resolved(self.config)
        if (self._fixed.dtype, self._fixed.record) != (self.dtype, self.record):
            self._fixed = FixedGenerator(self.generator, self.dtype, self.record)
        seen = to_float(self.fit(shown[-given:])).to(self.device)[None]  # (1 or samples, C, channels, R, R)
        labels = torch.full((samples,), label, device=self.device)
        videos, flows = [], []
        for part in range(math.ceil(frames / chunk)):
            z = clip_latents(part, samples, self.config.latent_dim, seed, sampling.truncation).to(self.device)
            video, warps = self._fixed(seen, z, labels, return_warps=motion is not None)
            if motion is not None:
                flows.append(motion_field({r: w.float() for r, w in warps.items()}, self.config.resolution, motion))
            videos.append(video)
            seen = torch.cat([seen.expand(samples, -1, -1, -1, -1), video], dim=1)[:, -given:]
        pixels = to_uint8(torch.cat(videos, dim=1)[:, :frames])
        return Futures(pixels, torch.cat(flows)[:frames].cpu() if motion is not None else None)


def _at(truncation: float | None) -> str:
    return "without truncation" if truncation is None else f"at truncation {truncation:g}"
