"""The command `trivd replicate`: the paper's comparisons, trained with several seeds at a size of one's own machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from research.grids import GRIDS, Grid, grid
from research.jobs import run_at_once, run_here
from research.pace import Pace, paces, print_costs, steps_of, threads_each
from research.records import collect
from research.runs import Task
from research.tables import fill_pages
from trivd.commands.status import DONE, STOPPED
from trivd.runtime.console import say, show_table
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder
from trivd.runtime.hardware import cpu_threads
from trivd.training.loop import open_splits

RUNS, RESULTS = Path("runs/replication"), Path("benchmarks/results/replication")


@dataclass(frozen=True)
class ListGrids:
    """List the grids."""

    def run(self, console: Console) -> int:
        rows = [(name, f"{len(found.cells)} x {found.seeds}", found.about) for name, found in GRIDS.items()]
        show_table(console, ("grid", "runs", "what is compared"), rows)
        return DONE


@dataclass(frozen=True)
class Costs:
    """Measure the time of a step of each cell, and estimate the cost of the whole grid."""

    grid: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GRID")]
    jobs: int = 1
    """Runs at a time, which share the cores."""
    results: Path = RESULTS
    """Folder for JSON files; the pace is kept and used by `run`."""

    def run(self, console: Console) -> int:
        chosen = grid(self.grid)
        check_output_folder(self.results, "choose another --results")
        print_costs(chosen, _paces(chosen, self.grid, self.jobs, self.results, console), self.jobs, console)
        return DONE


@dataclass(frozen=True)
class RunGrid:
    """Train and score the runs of a grid; the same command resumes after a stop."""

    grid: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GRID")]
    data: str | None = None
    """Data set, where the grid does not name one."""
    cells: tuple[str, ...] = ()
    """Labels of the cells to run; all if not given."""
    seeds: tuple[int, ...] = ()
    """Seeds to run; all of the grid if not given."""
    jobs: int = 1
    """Runs at a time, each in a process of its own; they share the cores."""
    runs: Path = RUNS
    """Folder for the trainings."""
    results: Path = RESULTS
    """Folder for a JSON file per run."""

    def run(self, console: Console) -> int:
        chosen = grid(self.grid)
        data = self.data or chosen.data
        if data is None:
            raise TrivdError(f"The grid {self.grid} needs --data, a folder of videos or a store.")
        if self.jobs < 1:
            raise TrivdError(f"--jobs is {self.jobs}; it must be at least 1.")
        cells = [chosen.cell(label) for label in self.cells] or list(chosen.cells)
        seeds = self.seeds or range(chosen.seeds)
        # Errors that would end the first run are reported before the pace is measured.
        for folder, option in ((self.runs, "--runs"), (self.results, "--results")):
            check_output_folder(folder, f"choose another {option}")
        configs = [chosen.config(cells[0], seed, None) for seed in seeds]
        open_splits(configs[0], data)
        found = _paces(chosen, self.grid, self.jobs, self.results, console)
        tasks = [
            Task(self.grid, chosen, cell, seed, steps_of(chosen, found[cell.label]), data)
            for seed in seeds
            for cell in cells
        ]
        if self.jobs == 1:
            done = run_here(tasks, self.runs, self.results, console)
        else:
            done = run_at_once(tasks, self.jobs, self.runs, self.results, console)
        if not done:
            say(console, "Stopped; all is saved. Repeat the command to resume.")
            return STOPPED
        say(console, f"All {len(tasks)} runs are done. Results: {self.results / self.grid}")
        return DONE


@dataclass(frozen=True)
class Collect:
    """Put the runs of each grid into one JSON file, which the repository keeps in place of theirs."""

    results: Path = RESULTS
    """Folder of the JSON files."""

    def run(self, console: Console) -> int:
        check_output_folder(self.results, "choose another --results")
        for name, found in GRIDS.items():
            if (path := collect(self.results, name, found)) is not None:
                say(console, f"Written: {path}")
        return DONE


@dataclass(frozen=True)
class FillTables:
    """Put the tables of all grids into Markdown pages, and a picture of each beside the JSON files."""

    results: Path = RESULTS
    """Folder of the JSON files."""
    document: Path = Path("docs/results")
    """The Markdown page that has a pair of markers for each grid, or a folder of pages."""

    def run(self, console: Console) -> int:
        for path in fill_pages(self.results, self.document):
            say(console, f"Written: {path}")
        return DONE


@dataclass(frozen=True)
class Replicate:
    """The paper's comparisons, with seeds and error bars."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[ListGrids, tyro.conf.subcommand("list")]
        | Annotated[Costs, tyro.conf.subcommand("costs")]
        | Annotated[RunGrid, tyro.conf.subcommand("run")]
        | Annotated[Collect, tyro.conf.subcommand("collect")]
        | Annotated[FillTables, tyro.conf.subcommand("tables")]
    ]

    def run(self, console: Console) -> int:
        return self.command.run(console)


def _paces(chosen: Grid, name: str, jobs: int, results: Path, console: Console) -> dict[str, Pace]:
    """Measured with as many threads as each run will have."""
    with cpu_threads(threads_each(jobs)):
        return paces(chosen, name, results, console)
