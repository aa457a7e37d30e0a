"""Losses of the same training with the plain network and with ours, from the same seed, side by side.

    python -m benchmarks.scripts.curves --json OUT.json [--preset quickstart] [--steps 300] [--device cuda]

It also draws OUT.png. The curves drift apart even in float32: Adam's first updates (beta1 = 0) have the size of the
learning rate whatever the gradient's, so that rounding decides the sign of those near zero. The tests compare single
steps.
"""

import json as json_format
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measuring import circumstances
from reference.layers import load
from reference.step import Trainer as PlainTrainer
from trivd.config import Config
from trivd.data.clips import open_clips
from trivd.data.loader import TrainingStream
from trivd.pictures.plots import BASELINE_COLOR, COLORS, to_png
from trivd.presets import preset as preset_config
from trivd.runtime.files import write_atomically
from trivd.runtime.hardware import choose_device, choose_precision, dtype_name, set_up_program
from trivd.training.division import divide
from trivd.training.objectives import Losses
from trivd.training.step import Trainer

PLAIN = "plain float32"

Curve = list[dict[str, float]]  # losses by name, a row per step


def main(json: Path, preset: str = "quickstart", steps: int = 300, device: str = "auto") -> None:
    """Train on moving-digits in every way.

    Args:
        json: file for the losses of all steps, with versions, hardware, date and command.
        preset: preset that is trained.
        steps: steps of each training.
        device: device of all trainings.
    """
    console, place = Console(), choose_device(device, "--device")
    set_up_program()
    config, best = preset_config(preset), choose_precision("auto", place)
    ways: dict[str, Callable[[], PlainTrainer | Trainer]] = {
        PLAIN: lambda: plain_trainer(config, place),
        "ours float32": lambda: Trainer(config, place, torch.float32),
        f"ours {dtype_name(best)}": lambda: Trainer(config, place, best),
    }
    curves = {name: train(name, make(), config, steps) for name, make in ways.items()}
    console.print(means(curves))
    facts = {"preset": preset, "steps": steps}
    write_atomically(json, json_format.dumps(circumstances(place) | facts | {"losses": curves}).encode())
    write_atomically(json.with_suffix(".png"), to_png(plot(curves)))


def plain_trainer(config: Config, device: torch.device) -> PlainTrainer:
    """The plain step, from the weights that ours starts with."""
    ours, plain = Trainer(config, device, torch.float32), PlainTrainer(config, device)
    load(plain.generator, ours.generator.state_dict())
    load(plain.discriminators, ours.discriminators.state_dict())
    return plain


def train(name: str, trainer: PlainTrainer | Trainer, config: Config, steps: int) -> Curve:
    """The losses of `steps` steps on the batches that `trivd train` would take."""
    recipe = config.training
    passes, clips = divide(recipe, processes=1)
    dataset = open_clips("moving-digits", "train", config.data, config.model)
    stream = TrainingStream(dataset, clips, recipe.seed, start=0, workers=config.data.workers)
    rows: Curve = []
    with closing(iter(stream)) as batches:
        for _ in track(range(steps), name):
            updates = [list(islice(batches, passes)) for _ in range(recipe.discriminator_updates)]
            losses: Losses = trainer.train_step(updates)
            rows.append({loss: value.item() for loss, value in losses.items()})
    return rows


def means(curves: Mapping[str, Curve]) -> Table:
    """Each loss, averaged over the first and the second half of the steps."""
    table = Table("loss", "steps", *curves)
    length = len(curves[PLAIN])
    for name in curves[PLAIN][0]:
        for part in (slice(0, length // 2), slice(length // 2, length)):
            cells = (f"{sum(row[name] for row in rows[part]) / len(rows[part]):.4g}" for rows in curves.values())
            table.add_row(name.removeprefix("loss/"), f"{part.start + 1}-{part.stop}", *cells)
    return table


def plot(curves: Mapping[str, Curve]) -> Figure:
    """A panel for each loss, a line for each way."""
    names = list(curves[PLAIN][0])
    figure = Figure(figsize=(4.2 * len(names) / 2, 6), layout="constrained")
    axes = figure.subplots(2, -(-len(names) // 2), squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        for (way, rows), color in zip(curves.items(), (BASELINE_COLOR, *COLORS), strict=False):
            axis.plot([row[name] for row in rows], label=way, color=color, linewidth=0.9)
        axis.set_title(name.removeprefix("loss/"), fontsize=9)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=8)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    return figure


if __name__ == "__main__":
    tyro.cli(main)
