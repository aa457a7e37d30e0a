"""The time that a step of each cell takes: it sets equal training times (Table 1) and tells what a grid costs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dacite
import torch
from rich.console import Console

from benchmarks.measuring import circumstances, finisher, take_turns
from benchmarks.suites.step import make_step, measure_memory
from research.grids import Grid
from research.records import PACE_FILE, read_pace
from trivd.runtime.console import say, show_table
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically
from trivd.runtime.hardware import choose_device, choose_precision
from trivd.training.step import Trainer

TURNS, STEPS = 5, 4  # steps of the cells alternate, so that another load of the machine slows all of them alike


@dataclass(frozen=True)
class Pace:
    """Duration and memory of one cell's training step, with the data in memory already (E.3).

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


def paces(grid: Grid, name: str, results: Path, console: Console) -> dict[str, Pace]:
    """The pace of each cell by its label; it is measured once and then kept, so that all runs of a grid agree.

    Args:
        grid: the grid whose cells are measured in turn.
        name: the grid's name.
        results: folder of the results, in which the pace is kept.
        console: where progress is printed.

    Raises:
        TrivdError: the file of the pace holds something else.
    """
    found = known_paces(results, name)
    if not found:
        say(console, f"Measuring the pace of {len(grid.cells)} cells.")
        measured = json.dumps(_measure(grid), indent=2) + "\n"
        write_atomically(results / name / PACE_FILE, measured.encode())
        found = known_paces(results, name)
    missing = [cell.label for cell in grid.cells if cell.label not in found]
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


def _measure(grid: Grid) -> dict[str, Any]:
    configs = {cell.label: grid.config(cell, 0, None) for cell in grid.cells}
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


def steps_of(grid: Grid, pace: Pace) -> int | None:
    """Steps that fit into the grid's training time; None where the preset sets them."""
    return None if grid.seconds is None else max(1, int(grid.seconds / pace.seconds))


def print_costs(grid: Grid, found: dict[str, Pace], jobs: int, console: Console) -> None:
    """Print the time and memory that training takes, before it is started."""
    rows, hours = [], []
    for cell in grid.cells:
        pace = found[cell.label]
        steps = grid.config(cell, 0, steps_of(grid, pace)).training.steps
        hours.append(grid.seeds * steps * pace.seconds / 3600)
        rows.append((cell.label, *pace.cells, f"{steps:,}", str(grid.seeds), f"{hours[-1]:.2f}"))
    show_table(console, ("cell", "ms per step", "GiB", "steps", "seeds", "hours"), rows, grid.about)
    jobs_said = f"{jobs} job{'s' if jobs > 1 else ''}"
    say(console, f"In all about {sum(hours) / jobs:.1f} hours of training with {jobs_said} at a time.")


def threads_each(jobs: int) -> int:
    """Threads for each of `jobs` processes that run at once."""
    return max(1, torch.get_num_threads() // jobs)
