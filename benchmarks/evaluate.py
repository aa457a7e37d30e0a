"""Speed of a whole evaluation against the plain way: float32, one clip at a time, nothing shared or folded.

python benchmarks/evaluate.py --clips 32 [--features i3d] [--json result.json]

Both draw one future of each clip and take the features of the true clips, the copies and the futures.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from measuring import circumstances

from trivd.config import EvaluationConfig, to_dict
from trivd.data.clips import Clip, ClipDataset, open_clips
from trivd.data.source import Split
from trivd.evaluation.digits_network import load_digits_network
from trivd.evaluation.evaluate import evaluate, model_subject
from trivd.evaluation.features import FeatureNetwork
from trivd.evaluation.frames import psnr, ssim
from trivd.evaluation.frechet import frechet_distance
from trivd.evaluation.i3d import I3D, Identity
from trivd.evaluation.scores import clip_latents
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.hardware import choose_device, choose_precision, keep_freed_memory, to_channels_last
from trivd.models.generator import Generator
from trivd.presets import preset
from trivd.video import to_float, to_pixels

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluation"))

from i3d_plain import plain_logits, random_variables


class Loaded:
    """Clips in memory: neither way waits for them."""

    split: Split = "test"
    classes: tuple[str, ...] = ()
    report: tuple[str, ...] = ()

    def __init__(self, clips: ClipDataset, count: int) -> None:
        self._clips = [clips.evaluation_clip(number) for number in range(count)]
        self.evaluation_clips = count

    def __len__(self) -> int:
        return self.evaluation_clips

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self._clips[index]

    def evaluation_clip(self, index: int) -> Clip:
        return self._clips[index]


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    clips: int = 32  # of the plain way
    ours: int | None = None  # clips of our way; as many if not given
    features: Literal["i3d", "moving-digits"] = "i3d"
    preset: str = "small"  # of the model; its weights are random
    device: str = "auto"
    json: Path | None = None  # where the result is written


def main(settings: Settings) -> None:
    """Time both ways, and print clips per second."""
    keep_freed_memory()
    device, config = choose_device(settings.device), preset(settings.preset)
    torch.manual_seed(0)
    digits = open_clips("moving-digits", "validation", config.data, config.model)
    variables = random_variables(0)
    generator = Generator(config.model).requires_grad_(False).to(device)
    i3d = I3D.from_tensorflow(variables, Identity("FVD (random weights)", "IS (random weights)", "random")).to(device)
    network: FeatureNetwork = i3d if settings.features == "i3d" else load_digits_network(device)

    def plain_features(video: torch.Tensor) -> torch.Tensor:
        return plain_logits(video, variables) if settings.features == "i3d" else network(video).embedding

    def our_way(held_out: Loaded) -> float:
        choices = EvaluationConfig(
            clips=len(held_out), best_of_clips=1, samples=1, batch_size=8, standing_batches=1, standing_batch_size=4
        )
        history = {"step": 0, "config": to_dict(config)}
        subject = model_subject(generator, history, held_out, choices, choose_precision("auto", device))
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            evaluation = evaluate(subject, "digits", 1, held_out, choices, network, device, report)
        return evaluation.figure(network.distance).model.mean

    few = EvaluationConfig(standing_batches=1, standing_batch_size=4)
    refresh_standing_statistics(generator, digits, few, torch.float32)
    ways = {
        "plain": (lambda held_out: plain(generator, held_out, plain_features), Loaded(digits, settings.clips)),
        "ours": (our_way, Loaded(digits, settings.ours or settings.clips)),
    }
    speeds, distances = {}, {}
    for name, (way, clips) in ways.items():
        if name == "ours":
            to_channels_last(generator)
        way(Loaded(digits, 4))  # warms up
        started = time.perf_counter()
        distances[name] = way(clips)
        speeds[name] = len(clips) / (time.perf_counter() - started)
    result = circumstances(device) | {
        "settings": asdict(settings) | {"json": None},
        "clips_per_second": speeds,
        "ratio": speeds["ours"] / speeds["plain"],
        "minutes_for_2048_clips": {name: 2048 / speed / 60 for name, speed in speeds.items()},
        "distance": distances,
    }
    for name, speed in speeds.items():
        print(f"{name:>5}: {speed:.2f} clips/s, 2,048 clips in {2048 / speed / 60:.1f} min")
    print(f"ratio: {result['ratio']:.2f}\n{result['hardware']}")
    if settings.json is not None:
        settings.json.write_text(json.dumps(result, indent=2) + "\n")


@torch.no_grad()
def plain(generator: Generator, held_out: Loaded, features: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The distance, clip by clip in float32."""
    given = generator.config.conditioning_frames
    device = next(generator.parameters()).device
    sets: tuple[list[torch.Tensor], ...] = ([], [], [])
    for number in range(len(held_out)):
        clip = held_out.evaluation_clip(number)
        video = to_float(clip.video).to(device)[None]
        z = clip_latents(number, 1, generator.config.latent_dim, 0, None).to(device)
        future = generator(video[:, :given], z, torch.tensor([clip.label], device=device)).video
        copy = video[:, given - 1 : given].expand_as(future)
        for prediction in (future, copy):
            psnr(prediction, video[:, given:])
            ssim(prediction, video[:, given:])
        for part, rest in zip(sets, (video[:, given:], copy, future), strict=True):
            part.append(features(to_pixels(torch.cat([video[:, :given], rest], dim=1))))
    truth, _, model = (torch.cat(part) for part in sets)
    return frechet_distance(truth, model)


if __name__ == "__main__":
    main(tyro.cli(Settings))
