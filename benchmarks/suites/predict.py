"""`trivd benchmark predict`: time and throughput of futures, against the network written plainly and DGMR's generator.

12 rows; about twenty minutes on two CPU cores. A video of 25 frames a second is predicted in real time below 440 ms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.dgmr import (
    GIVEN_FRAMES,
    HOW_TO_GET,
    context_channels_for,
    dgmr_generator,
    find_dgmr,
)
from benchmarks.measuring import EAGER, finisher, ratios, take_turns
from benchmarks.suite import Case, Column, Suite
from benchmarks.suites.step import warm_ups
from reference.generator import Generator as PlainGenerator
from reference.layers import load
from trivd.config import Config, ModelConfig, override
from trivd.data.loader import Batch
from trivd.evaluation.standing import collect_standing_statistics
from trivd.models.generator import Generator
from trivd.prediction.predictor import Predictor
from trivd.presets import preset
from trivd.runtime.hardware import autocast, to_channels_last
from trivd.runtime.pixels import to_float, to_uint8
from trivd.training.plan import flops

FRAMES_PER_SECOND = 25


@dataclass(frozen=True)
class Predict(Suite):
    """Settings.

    Args:
        channels: ch of the paper's medium model.
        resolution: of its frames.
        models: "paper" 5 -> 11 frames, "small" the preset for small data.
        batches: futures drawn at once.
        precisions: of convolutions.
    """

    name = "predict"
    title = "Prediction, from uint8 frames to uint8 frames"
    columns = (
        Column("model", ("case", "model")),
        Column("futures at once", ("case", "batch")),
        Column("type", ("case", "precision")),
        Column("time [ms]", ("seconds", "ours"), 1, 1e3),
        Column("real time [ms]", ("real_time",), 0, 1e3),
        Column("futures/s", ("futures_per_second",), 3),
        Column("GFLOP/s", ("flops_per_second",), 0, 1e-9),
        Column("plain float32 / ours", ("ratios", "plain / ours")),
        Column("without graphs [ms]", ("seconds", EAGER), 1, 1e3),
        Column("DGMR / ours", ("ratios", "DGMR / ours")),
        Column("DGMR's FLOPs / ours", ("dgmr_flops_ratio",)),
    )

    channels: int = 48
    resolution: int = 64
    models: tuple[Literal["paper", "small"], ...] = ("paper", "small")
    batches: tuple[int, ...] = (1, 4, 16)
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    turns: int = 3

    @classmethod
    def quick(cls) -> "Predict":
        return cls(channels=8, batches=(1, 4), turns=2)

    def cases(self) -> Sequence[Case]:
        return [
            {"model": model, "batch": batch, "precision": precision}
            for model, batch, precision in product(self.models, self.batches, self.precisions)
        ]

    def model_config(self, model: str) -> ModelConfig:
        """The configuration of a row's model."""
        if model == "small":
            return preset("small").model
        changes = {
            "generator_channels": self.channels,
            "discriminator_channels": self.channels,
            "resolution": self.resolution,
            "recurrent_resolutions": [r for r in (8, 16, 32) if r <= self.resolution],
        }
        return override(Config(), {"model": changes}, "trivd benchmark predict").model

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        batch, dtype = int(case["batch"]), getattr(torch, str(case["precision"]))
        config = self.model_config(str(case["model"]))
        generator = _generator(config, device)
        plain = load(PlainGenerator(config), generator.state_dict()).eval()
        to_channels_last(generator)
        past = np.random.default_rng(0).integers(0, 256, _shape(config, config.conditioning_frames)[1:], np.uint8)

        def ours(graphs: bool = True) -> Callable[[], object]:
            predictor = Predictor(generator, {})
            predictor.dtype = dtype
            if not graphs:
                predictor.record = None
            return lambda: predictor.predict(past, samples=batch)

        @torch.no_grad()
        def plainly() -> object:
            frames = to_float(torch.from_numpy(past).to(device)).expand(batch, -1, -1, -1, -1)
            return to_uint8(plain(frames, torch.randn(batch, config.latent_dim, device=device)))

        ways: dict[str, Callable[[], object]] = {"ours": ours(), "plain": plainly}
        if device.type == "cuda":
            ways[EAGER] = ours(graphs=False)
        with torch.no_grad():
            needed = flops(ours())
        facts: dict[str, Any] = {"flops": needed}
        if find_dgmr() is None:
            facts |= {"missing": {"DGMR / ours": HOW_TO_GET}}
        else:
            ways["DGMR"], theirs = _dgmr(needed // batch, config, batch, device, dtype)
            facts |= {"dgmr_flops_ratio": theirs / needed}
        seconds = take_turns(ways, self.turns, warm_ups(device), finisher(device))
        return facts | {
            "seconds": seconds,
            "real_time": config.predicted_frames / FRAMES_PER_SECOND,
            "futures_per_second": batch / seconds["ours"],
            "flops_per_second": needed / seconds["ours"],
            "ratios": ratios(seconds, ("plain", "ours"), ("DGMR", "ours")),
        }


def _shape(config: ModelConfig, frames: int) -> tuple[int, ...]:
    """The given frames of one clip, (1, frames, H, W, C)."""
    return 1, frames, config.resolution, config.resolution, config.image_channels


def _generator(config: ModelConfig, device: torch.device) -> Generator:
    """A generator with initial weights and the standing statistics of a random clip."""
    torch.manual_seed(0)
    generator = Generator(config).requires_grad_(False).to(device)
    video = torch.randint(256, _shape(config, config.frames), dtype=torch.uint8)
    batch = Batch(video, torch.zeros(1, dtype=torch.int64))
    collect_standing_statistics(generator, [batch], torch.Generator().manual_seed(0), torch.float32)
    return generator


@torch.no_grad()
def _dgmr(
    target: int, config: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], object], int]:
    """DGMR's generator as wide as gives `target` FLOPs for a clip, run on `batch` clips; and the FLOPs of that."""
    clips = torch.randn(batch, GIVEN_FRAMES, 1, config.resolution, config.resolution)
    width = context_channels_for(target, config.predicted_frames, clips[:1])
    network = dgmr_generator(width, config.predicted_frames, config.resolution).to(device)
    clips = clips.to(device)

    @torch.no_grad()
    def run() -> object:
        with autocast(device, dtype):
            return network(clips)

    return run, batch * flops(lambda: network(clips[:1]))
