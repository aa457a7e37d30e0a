"""Losses of the same training with steps in a CUDA graph and without: equal, or how far apart.

    python -m benchmarks.scripts.graphs --json OUT.json

Both begin with the same weights and see the same clips. Where cuDNN chooses other algorithms, or some that add up in no
fixed order, they differ by the rounding of the type, which training then amplifies.
"""

import json as json_format
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console

from benchmarks.measuring import circumstances
from benchmarks.suites.step import random_updates, without_graph
from trivd.presets import preset as named_preset
from trivd.runtime.console import say
from trivd.runtime.files import write_atomically
from trivd.runtime.hardware import choose_device, choose_precision
from trivd.training.step import Trainer


def main(
    json: Path,
    *,
    steps: int = 20,
    preset: str = "quickstart",
    device: str = "auto",
    precision: Literal["auto", "bfloat16", "float32"] = "auto",
) -> None:
    """Train twice and compare the losses of each step.

    Args:
        json: file for the largest relative difference of each step, and whether all are equal bit for bit.
        steps: of each training; on a GPU the first three are not in the graph yet.
        preset: of the model.
        device: auto, cpu, cuda; on a CPU there is no graph, and all must be equal.
        precision: of convolutions.
    """
    config, place = named_preset(preset), choose_device(device, "--device")
    dtype = choose_precision(precision, place)
    losses = []
    for chosen in (config, without_graph(config)):
        trainer, updates = Trainer(chosen, place, dtype), random_updates(config)
        made = [trainer.train_step(updates) for _ in range(steps)]
        losses.append(torch.stack([torch.stack(list(each.values())) for each in made]).double().cpu())
    graphed, eager = losses  # (steps, losses)
    differences = ((graphed - eager).abs() / eager.abs().clamp(min=1e-6)).amax(dim=1)
    equal = torch.equal(graphed, eager)
    facts = {"preset": preset, "equal": equal, "differences": differences.tolist()}
    write_atomically(json, (json_format.dumps(circumstances(place) | facts, indent=2) + "\n").encode())
    words = (
        "equal bit for bit"
        if equal
        else f"up to {differences.max():.1e} apart, after 5 steps {differences[:5].max():.1e}"
    )
    say(Console(), f"Losses of {steps} steps with CUDA graphs and without: {words}")


if __name__ == "__main__":
    tyro.cli(main)
