"""Training of the feature network of "FVD (moving-digits)", which the package holds as digits_network.safetensors.

    python -m benchmarks.scripts.train_digits_network --results benchmarks/results/2026-11-22-digits-network.json

12 minutes of one core with bfloat16 instructions, for 80,000 clips. The same seed gives the same weights on the same
kind of machine; another one rounds differently.
"""

import datetime
import json
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.progress import track
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

import trivd.evaluation
from benchmarks.scripts.digits_clips import (
    EMPTY,
    Truth,
    batch_of,
    damage,
    moving_digits,
    random_clips,
    truth_of,
)
from trivd.evaluation.networks.digits import (
    CLASSES,
    LAYERS,
    WEIGHTS,
    WIDTH,
    DigitsClassifier,
    DigitsNetwork,
    Readings,
)
from trivd.runtime.files import write_atomically
from trivd.runtime.hardware import autocast, set_up_program, to_channels_last

BATCH_NORM_MOMENTUM = 0.02  # of the running statistics: a batch is small, and its clips are of one length
WARM_UP = 0.1  # share of the steps over which the learning rate rises
VISIBLE_WEIGHT = 3.0
QUANTITIES_WEIGHT = 1.0
CELLS_WEIGHT = 2.0
CELLS_VELOCITY_WEIGHT = 0.2
EMPTY_WEIGHT = 0.2  # most cells are empty
SECTORS = 8  # directions that held-out accuracy tells apart
BATCH_HELD_OUT = 32


@dataclass(frozen=True)
class Settings:
    """Options of the training."""

    output: Path = Path(trivd.evaluation.__path__[0]) / WEIGHTS
    results: Path | None = None  # JSON with the held-out figures
    steps: int = 5000
    batch_size: int = 16
    lr: float = 2e-3  # the highest
    weight_decay: float = 1e-2
    seed: int = 0
    held_out_clips: int = 512  # of each kind
    threads: int = 1
    log_every: int = 200  # steps


class NormalisedClassifier(DigitsClassifier):
    """The classifier with BatchNorm behind each convolution, as it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm3d(width, momentum=BATCH_NORM_MOMENTUM) for width, _, _ in LAYERS)

    def convolve(self, number: int, video: Tensor) -> Tensor:
        """See `DigitsClassifier.convolve`."""
        normalised: Tensor = self.norms[number](super().convolve(number, video))
        return normalised

    def folded(self) -> DigitsClassifier:
        """The same function in evaluation mode, without BatchNorm."""
        self.eval()
        plain = DigitsClassifier()
        learnt = {name: value for name, value in self.state_dict().items() if not name.startswith("norms.")}
        plain.load_state_dict(learnt)
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            assert isinstance(convolution, nn.Conv3d)
            assert isinstance(norm, nn.BatchNorm3d)
            plain.convolutions[number] = fuse_conv_bn_eval(convolution, norm)
        for parameter in plain.parameters():
            parameter.data = parameter.data.contiguous()  # channels last was for training; safetensors wants this
        return plain


class CellHead(nn.Module):
    """Reads digits and their velocities from the feature map; in training only, where it makes learning easier."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Conv3d(WIDTH, CLASSES + 1 + 2, 1)

    def loss(self, feature_map: Tensor, truth: Truth) -> Tensor:
        """The loss of the contents of the cells of (B, 128, T', 4, 4) and of their motion."""
        logits, velocity = self.read(feature_map).float().split((CLASSES + 1, 2), dim=1)
        weight = torch.ones(CLASSES + 1)
        weight[EMPTY] = EMPTY_WEIGHT
        error = (velocity - truth.cells_velocity).square().sum(dim=1)[truth.cells != EMPTY]
        return CELLS_WEIGHT * F.cross_entropy(logits, truth.cells, weight) + CELLS_VELOCITY_WEIGHT * error.mean()


def loss_of(readings: Readings, truth: Truth) -> Tensor:
    """The loss of what is read from the pooled features."""
    return (
        F.cross_entropy(readings.nearest, truth.nearest)
        + VISIBLE_WEIGHT * F.binary_cross_entropy_with_logits(readings.visible, truth.visible)
        + QUANTITIES_WEIGHT * F.mse_loss(readings.quantities, truth.quantities)
    )


def train(settings: Settings, console: Console) -> DigitsClassifier:
    """Train on clips that are never seen twice."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    classifier = NormalisedClassifier()
    to_channels_last(classifier)
    cell_head = CellHead()
    parameters = [*classifier.parameters(), *cell_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, settings.steps, pct_start=WARM_UP, cycle_momentum=False
    )
    mean = 0.0
    for step in track(range(settings.steps), "Training", console=console, transient=True):
        clips = random_clips(rng, step * settings.batch_size, settings.batch_size)
        video, truth = batch_of(clips)
        damage(video, truth, rng)
        with autocast(video.device, torch.bfloat16):
            maps = classifier.feature_maps(video.contiguous(memory_format=torch.channels_last_3d))
        maps[-1] = maps[-1].float()
        loss = loss_of(classifier.read(maps), truth) + cell_head.loss(maps[-1], truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        mean += loss.item() / settings.log_every
        if (step + 1) % settings.log_every == 0:
            console.print(f"step {step + 1:>5}  loss {mean:.3f}")
            mean = 0.0
    return classifier.folded()


def sectors(velocity: Tensor) -> Tensor:
    """The one of 8 directions that (x, y) points to: (B, 2 or more) -> (B,)."""
    return (torch.atan2(velocity[:, 1], velocity[:, 0]) * (SECTORS / (2 * torch.pi))).round() % SECTORS


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between vectors (B, 2)."""
    return torch.rad2deg(torch.acos(F.cosine_similarity(a, b).clamp(-1, 1)))


def held_out_figures(network: DigitsNetwork, clips: int, frames: int, resolution: int, digits: int) -> dict[str, float]:
    """Accuracy of the network on validation clips of one kind."""
    data = moving_digits("validation", frames, (1, resolution, 3, digits))
    readings: list[Readings] = []
    for first in range(0, clips, BATCH_HELD_OUT):
        numbers = range(first, min(first + BATCH_HELD_OUT, clips))
        readings.append(network.read(torch.from_numpy(np.stack([data.clip(number) for number in numbers]))))
    said = Readings(*(torch.cat(values) for values in zip(*readings, strict=True)))
    truth = Truth(*(torch.cat(values) for values in zip(*(truth_of(data, i) for i in range(clips)), strict=True)))
    digit_angle = angle(said.quantities[:, :2], truth.quantities[:, :2])
    pan_angle = angle(said.quantities[:, 3:5], truth.quantities[:, 3:5])
    best = said.nearest.argmax(dim=1)
    figures = {
        "nearest_digit_accuracy": (best == truth.nearest),
        "said_digit_is_in_the_clip": truth.visible.gather(1, best[:, None]),
        "visible_digits_accuracy_per_digit": (said.visible > 0) == (truth.visible > 0),
        "all_visible_digits_right": ((said.visible > 0) == (truth.visible > 0)).all(dim=1),
        "direction_of_digits_accuracy_8": sectors(said.quantities[:, :2]) == sectors(truth.quantities[:, :2]),
        "direction_of_digits_within_22.5_degrees": digit_angle <= 180 / SECTORS,
        "direction_of_background_accuracy_8": sectors(said.quantities[:, 3:5]) == sectors(truth.quantities[:, 3:5]),
        "direction_of_background_within_22.5_degrees": pan_angle <= 180 / SECTORS,
        "digit_velocity_mean_error_pixels": (said.quantities[:, :2] - truth.quantities[:, :2]).norm(dim=1),
        "background_velocity_mean_error_pixels": (said.quantities[:, 3:5] - truth.quantities[:, 3:5]).norm(dim=1),
    }
    return {name: round(value.float().mean().item(), 4) for name, value in figures.items()}


def main(settings: Settings) -> None:
    set_up_program()
    torch.set_num_threads(settings.threads)
    console = Console(highlight=False)
    started = time.monotonic()
    classifier = train(settings, console)
    seconds = round(time.monotonic() - started)
    network = DigitsNetwork(classifier, "")
    figures = {
        f"{digits} digits, {frames} frames, {resolution} pixels": held_out_figures(
            network, settings.held_out_clips, frames, resolution, digits
        )
        for digits, frames, resolution in ((1, 16, 64), (2, 16, 64), (2, 8, 32), (2, 16, 128), (3, 16, 64))
    }
    record = {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "settings": {name: value for name, value in asdict(settings).items() if not isinstance(value, Path | None)},
        "hardware": f"{settings.threads} thread of {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "training_seconds": seconds,
        "training_clips": settings.steps * settings.batch_size,
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "held_out_clips": settings.held_out_clips,
        "held_out": figures,
    }
    console.print_json(data=record)
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in record.items()}
    write_atomically(settings.output, save(classifier.state_dict(), metadata))
    if settings.results is not None:
        write_atomically(settings.results, (json.dumps(record, indent=2) + "\n").encode())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
