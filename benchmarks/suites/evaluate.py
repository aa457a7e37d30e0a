"""`trivd benchmark evaluate`: a whole evaluation against the plain way: float32, one clip at a time, nothing shared.

2 rows; about five minutes on two CPU cores. Both ways draw one future of each clip and take the features of the true
clips, the copies and the futures; the weights of I3D and of the model are random. On a GPU, the feature network is
timed by itself too, in float32 as always and with TF32, which it never uses: what exactness costs.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import finisher, take_turns
from benchmarks.suite import Case, Column, Suite
from reference.i3d import logits as plain_logits
from reference.i3d import random_variables
from trivd.config import EvaluationConfig, ModelConfig, to_dict
from trivd.data.clips import Clip, ClipDataset, open_clips
from trivd.data.splits import Split
from trivd.evaluation.evaluate import HeldOut, evaluate
from trivd.evaluation.metrics.frame_scores import psnr, ssim
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.networks import digits, i3d
from trivd.evaluation.networks.digits import load_digits_network
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.networks.i3d import I3D, Identity
from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.evaluation.scorer import clip_latents
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.evaluation.subjects import TrainedModel, model_subject
from trivd.models.generator import Generator
from trivd.presets import preset
from trivd.runtime.hardware import choose_precision, full_float32, to_channels_last
from trivd.runtime.pixels import to_float, to_pixels

PAPERS_CLIPS = 2048  # the fewest that a published evaluation takes
FEW = EvaluationConfig(standing_batches=1, standing_batch_size=4)
WARM_UP_CLIPS = 4
NETWORK_CLIPS = 32  # of the feature network by itself

FeaturesOf = Callable[[Tensor], Tensor]  # uint8 clips (B, T, H, W, C) -> (B, features)


@dataclass(frozen=True)
class Evaluation(Suite):
    """Settings.

    Args:
        clips: of the plain way, 4 or more.
        our_clips: of our way; more, since it also collects standing statistics and writes a report, whatever the clips.
        networks: whose features are taken.
        preset: of the model.
    """

    name = "evaluate"
    title = "A whole evaluation, clips per second"
    columns = (
        Column("features", ("case", "features")),
        Column("ours [clips/s]", ("clips_per_second", "ours")),
        Column("plain [clips/s]", ("clips_per_second", "plain")),
        Column("speed, ours / plain", ("speed_ratio",)),
        Column("2,048 clips, ours [min]", ("minutes", "ours"), 1),
        Column("2,048 clips, plain [min]", ("minutes", "plain"), 1),
        Column("network, float32 [clips/s]", ("network", "float32"), 1),
        Column("with TF32 [clips/s]", ("network", "TF32"), 1),
    )

    clips: int = 16
    our_clips: int = 64
    networks: tuple[Literal["moving-digits", "i3d"], ...] = ("moving-digits", "i3d")
    preset: str = "small"
    turns: int = 2

    @classmethod
    def quick(cls) -> "Evaluation":
        return cls(clips=4, our_clips=4, networks=("moving-digits",), preset="quickstart", turns=1)

    def cases(self) -> Sequence[Case]:
        return [{"features": features} for features in self.networks]

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        config = preset(self.preset)
        torch.manual_seed(0)
        clips = open_clips("moving-digits", "validation", config.data, config.model)
        plain_network, network = _networks(case["features"] == "i3d", device)
        generators = [Generator(config.model).requires_grad_(False).to(device) for _ in range(2)]
        generators[1].load_state_dict(generators[0].state_dict())
        for generator in generators:
            refresh_standing_statistics(generator, clips, FEW, torch.float32)
        to_channels_last(generators[1])
        history = {"step": 0, "config": to_dict(config)}

        def plain(held_out: Loaded) -> float:
            return plain_distance(generators[0], held_out, plain_network)

        def ours(held_out: Loaded) -> float:
            return our_distance(generators[1], history, held_out, network)

        distances: dict[str, float] = {}

        def way(name: str, distance: Callable[[Loaded], float], count: int) -> Callable[[], object]:
            held_out = Loaded(clips, count)
            distance(Loaded(clips, WARM_UP_CLIPS))
            return lambda: distances.update({name: distance(held_out)})

        ways = {"ours": way("ours", ours, self.our_clips), "plain": way("plain", plain, self.clips)}
        seconds = take_turns(ways, self.turns, warm_ups=0, finish=finisher(device))
        facts = network_speed(network, config.model, device, self.turns) if device.type == "cuda" else {}
        speeds = {"ours": self.our_clips / seconds["ours"], "plain": self.clips / seconds["plain"]}
        return facts | {
            "seconds": seconds,
            "clips_per_second": speeds,
            "speed_ratio": speeds["ours"] / speeds["plain"],
            "minutes": {name: PAPERS_CLIPS / speed / 60 for name, speed in speeds.items()},
            "distances": distances,  # of random features; other latents are drawn, so they agree roughly
        }


def network_speed(network: FeatureNetwork, model: ModelConfig, device: torch.device, turns: int) -> dict[str, Any]:
    """Clips per second of a feature network in float32 and with TF32, and by how much that changes its features."""
    shape = (NETWORK_CLIPS, model.frames, model.resolution, model.resolution, model.image_channels)
    video = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)

    def exact() -> Tensor:
        return network(video).embedding

    def rounded() -> Tensor:
        with mock.patch.object(i3d, "full_float32", tf32), mock.patch.object(digits, "full_float32", tf32):
            return network(video).embedding

    difference = (rounded() - exact()).abs().max() / exact().abs().max()
    seconds = take_turns({"float32": exact, "TF32": rounded}, turns, finish=finisher(device))
    speed = {name: NETWORK_CLIPS / median for name, median in seconds.items()}
    return {"network": speed | {"largest_relative_difference": float(difference)}}


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Context of convolutions and matrix products in TF32, in place of `full_float32`, which restores the settings."""
    backends: Any = torch.backends  # which does not declare all of its members
    with full_float32(device):
        for setting in (backends.cuda.matmul, backends.cudnn.conv):
            setting.fp32_precision = "tf32"
        yield


class Loaded:
    """Clips in memory: neither way waits for them."""

    split: Split = "test"
    classes: tuple[str, ...] = ()

    def __init__(self, clips: ClipDataset, count: int) -> None:
        self.fps = clips.fps
        self.summary: list[str] = []
        self._clips = [clips.evaluation_clip(number) for number in range(count)]
        self.evaluation_clips = count

    def __len__(self) -> int:
        return self.evaluation_clips

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self._clips[index]

    def evaluation_clip(self, index: int) -> Clip:
        return self._clips[index]


def our_distance(generator: Generator, history: dict[str, Any], held_out: Loaded, network: FeatureNetwork) -> float:
    """The Fréchet distance that `trivd evaluate` computes."""
    device = next(generator.parameters()).device
    choices = EvaluationConfig(
        clips=len(held_out),
        best_of_clips=1,
        samples=1,
        batch_size=8,
        feature_cache=0,
        standing_batches=1,
        standing_batch_size=4,
    )
    subject = model_subject(TrainedModel(generator, history, choose_precision("auto", device)), held_out, choices)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        evaluation = evaluate(subject, HeldOut(held_out, "digits", 1), choices, network, device=device, report=report)
    return float(evaluation.figure(network.distance).model.mean)


@torch.no_grad()
def plain_distance(generator: Generator, held_out: Loaded, features: FeaturesOf) -> float:
    """The same distance, computed clip by clip in float32."""
    given = generator.config.conditioning_frames
    device = next(generator.parameters()).device
    sets: tuple[list[Tensor], ...] = ([], [])
    for number in range(len(held_out)):
        clip = held_out.evaluation_clip(number)
        video = to_float(clip.video).to(device)[None]
        z = clip_latents(number, 1, generator.config.latent_dim, 0, None).to(device)
        with full_float32(device):
            future = generator(video[:, :given], z, torch.tensor([clip.label], device=device)).video
        copy = video[:, given - 1 : given].expand_as(future)
        for prediction in (future, copy):
            psnr(prediction, video[:, given:])
            ssim(prediction, video[:, given:])
        features(to_pixels(torch.cat([video[:, :given], copy], dim=1)))  # the baseline is scored too
        for part, rest in zip(sets, (video[:, given:], future), strict=True):
            part.append(features(to_pixels(torch.cat([video[:, :given], rest], dim=1))))
    truth, model = (torch.cat(part) for part in sets)
    return float(frechet_distance(truth, model))


def _networks(is_i3d: bool, device: torch.device) -> tuple[FeaturesOf, FeatureNetwork]:
    """The plain form and ours; the bundled classifier of moving-digits has one form only."""
    if not is_i3d:
        network = load_digits_network(device)
        return (lambda video: network(video).embedding), network
    variables = random_variables(variable_shapes(), 0)
    identity = Identity("FVD (random weights)", "IS (random weights)", "random")

    def plain(video: Tensor) -> Tensor:
        with full_float32(device):  # that of the digits sets it itself, and may not find it set
            return plain_logits(video, variables)

    return plain, I3D.from_tensorflow(variables, identity).to(device)
