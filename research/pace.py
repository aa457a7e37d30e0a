"""The time that a step of each cell takes: it sets equal training times (Table 1) and tells what a comparison costs."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dacite
import torch
from rich.console import Console

from benchmarks.measuring import circumstances, finisher, take_turns
from benchmarks.suites.step import make_step, measure_memory
from research.comparison import Comparison
from research.records import PACE_FILE, read_pace
from trivd.config import Changes, Config
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically
from trivd.runtime.hardware import choose_device, choose_precision
from trivd.training.step import Trainer

TURNS, STEPS = 5, 4  # steps of the cells alternate, so that another load of the machine slows all of them alike


@dataclass(frozen=True)
class Pace:
    """Duration and memory of one cell's training step, without waiting for data (E.3).

    Args:
        seconds: duration of a step.
        peak_bytes: highest memory, networks and optimizers included; None where the system does not tell it.
    """

    seconds: float
    peak_bytes: int | None

    @property
    def cells(self) -> list[str]:
        """Milliseconds and GiB as cells of a table."""
        return [f"{1e3 * self.seconds:.0f}", "" if self.peak_bytes is None else f"{self.peak_bytes / 2**30:.2f}"]


def paces(comparison: Comparison, settings: Changes, results: Path, console: Console) -> dict[str, Pace]:
    """The pace of each cell by its label; it is measured once and then kept, so that all runs agree.

    Args:
        comparison: its cells are measured in turn.
        settings: settings of the user.
        results: folder of the results, in which the pace is kept.
        console: where progress is printed.

    Raises:
        TrivdError: the file of the pace holds something else.
    """
    name = comparison.records
    found = known_paces(results, name)
    if not found:
        say(console, f"Measuring the pace of {len(comparison.cells)} cells.")
        measured = json.dumps(_measure(comparison, settings), indent=2) + "\n"
        write_atomically(results / name / PACE_FILE, measured.encode())
        found = known_paces(results, name)
    missing = [cell.label for cell in comparison.cells if cell.label not in found]
    if missing:
        raise TrivdError(f"{results / name} does not hold the pace of {', '.join(missing)}; choose another --results.")
    return found


def known_paces(results: Path, name: str) -> dict[str, Pace]:
    """The paces that `paces` has kept; empty if it has measured none.

    Raises:
        TrivdError: their file holds something else.
    """
    values = read_pace(results, name)
    if values is None:
        return {}
    try:
        return {label: dacite.from_dict(Pace, pace) for label, pace in values["cells"].items()}
    except (KeyError, TypeError, AttributeError, dacite.DaciteError) as error:
        raise TrivdError(
            f"The record of {name} in {results} does not hold the pace of runs; choose another --results."
        ) from error


def _measure(comparison: Comparison, settings: Changes) -> dict[str, Any]:
    configs = {cell.label: cell.config(0, None, settings) for cell in comparison.cells}
    first = next(iter(configs.values())).training
    device = choose_device(first.device, "training.device")
    dtype = choose_precision(first.precision, device)
    steps = {label: make_step(Trainer(config, device, dtype)) for label, config in configs.items()}
    ways = {label: lambda step=step: [step() for _ in range(STEPS)] for label, step in steps.items()}
    seconds = take_turns(ways, TURNS, finish=finisher(device))
    del steps, ways  # their memory is not that of the steps measured next
    cells = {
        label: asdict(Pace(seconds[label] / STEPS, measure_memory(config, device, dtype)))
        for label, config in configs.items()
    }
    return {**circumstances(device), "cells": cells}


def logged_pace(rows: Sequence[Mapping[str, float]], config: Config, peak_bytes: int | None) -> Pace | None:
    """The pace of a training by its log, without the time spent waiting for clips; None if it logged none.

    Args:
        rows: of the log.
        config: of the training.
        peak_bytes: highest memory of a process, where it is known.
    """
    recipe = config.training
    images = recipe.discriminator_updates * recipe.batch_size * config.model.frames  # of a step
    seconds = [
        images / row["speed/images_per_second"] * (1 - row["speed/wait_share"])
        for row in rows
        if "speed/images_per_second" in row
    ]
    return Pace(statistics.median(seconds), peak_bytes) if seconds else None


def mean_pace(paces: Sequence[Pace]) -> Pace:
    """The mean duration and the highest memory of several."""
    known = [pace.peak_bytes for pace in paces if pace.peak_bytes is not None]
    return Pace(statistics.fmean(pace.seconds for pace in paces), max(known, default=None))


def steps_of(comparison: Comparison, pace: Pace) -> int | None:
    """Steps that fit into the comparison's training time; None where the presets set them."""
    return None if comparison.seconds is None else max(1, int(comparison.seconds / pace.seconds))


def threads_each(jobs: int) -> int:
    """Threads for each of `jobs` processes that run at once."""
    return max(1, torch.get_num_threads() // jobs)
