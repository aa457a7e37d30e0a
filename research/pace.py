"""How long a step of each cell takes: sets equal training times (Table 1), and says what a grid costs."""

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
from trivd.runtime.console import say, show_table
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically
from trivd.runtime.hardware import choose_device, choose_precision
from trivd.training.step import Trainer

PACE_FILE = "pace.json"  # beside the results of a grid
TURNS, STEPS = 5, 4  # steps of each cell in turn with the others', so that another load of the machine meets all


@dataclass(frozen=True)
class Pace:
    """Of one cell's training step, data in memory already (E.3)."""

    seconds: float
    peak_bytes: int | None  # networks and optimizers included; None where nothing says it

    @property
    def cells(self) -> list[str]:
        """Milliseconds and GiB, for tables."""
        return [f"{1e3 * self.seconds:.0f}", "" if self.peak_bytes is None else f"{self.peak_bytes / 2**30:.2f}"]


def paces(grid: Grid, file: Path, console: Console) -> dict[str, Pace]:
    """The pace of each cell by its label, from `file` if it was measured, so that all runs of a grid agree.

    Args:
        grid: whose cells are measured in turn.
        file: JSON, kept with the results.
        console: for what is said on the way.

    Raises:
        TrivdError: the file holds something else.
    """
    if not file.is_file():
        say(console, f"Measuring the pace of {len(grid.cells)} cells.")
        write_atomically(file, (json.dumps(_measure(grid), indent=2) + "\n").encode())
    found = read_paces(file)
    missing = [cell.label for cell in grid.cells if cell.label not in found]
    if missing:
        raise TrivdError(f"{file} does not hold the pace of {', '.join(missing)}; choose another --results.")
    return found


def read_paces(file: Path) -> dict[str, Pace]:
    """What `paces` has written.

    Raises:
        TrivdError: the file holds something else.
    """
    try:
        cells = json.loads(file.read_text())["cells"]
        return {label: dacite.from_dict(Pace, values) for label, values in cells.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, dacite.DaciteError) as error:
        raise TrivdError(f"{file} does not hold the pace of runs; choose another --results.") from error


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
    """Steps that fit into the grid's training time; None where the preset says them."""
    return None if grid.seconds is None else max(1, int(grid.seconds / pace.seconds))


def print_costs(grid: Grid, found: dict[str, Pace], jobs: int, console: Console) -> None:
    """What training takes, before it is started."""
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
    """Threads of each of `jobs` processes that run at once."""
    return max(1, torch.get_num_threads() // jobs)
