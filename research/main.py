"""The command `trivd replicate`: the paper's tables and figures at its own scale, or at that of one's own machine."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from rich.console import Console

from research.catalogue import NAMES, SCALES, find
from research.checks import data_sets, locate, problems
from research.comparison import Comparison, Scale
from research.costs import Reference, print_costs, reference
from research.figure3 import check_clips, draw_figure3
from research.jobs import run_at_once, run_here
from research.outputs import check_outputs, fill_pages, motion_file, write_comparison
from research.pace import Pace, paces, steps_of, threads_each
from research.runs import Task
from research.settings import parse_settings
from trivd.commands.status import DONE, STOPPED
from trivd.config import Changes
from trivd.runtime.console import say, show_table
from trivd.runtime.distributed import (
    barrier,
    broadcast_from_rank_0,
    is_first_process,
    process_group,
    rank,
    started_processes,
)
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder
from trivd.runtime.hardware import choose_device, cpu_threads
from trivd.training.output import lasting_output
from trivd.training.stops import interrupted_by_signals

RUNS, RESULTS = Path("runs/replication"), Path("benchmarks/results/replication")
PATIENCE = 3_600  # seconds that processes of torchrun wait for the slowest of them, in training or evaluation


@dataclass(frozen=True)
class ListComparisons:
    """List the comparisons with their scales."""

    def run(self, console: Console) -> int:
        rows = [
            (name, scale, f"{len(found.cells)} x {found.seeds}", found.about)
            for name in NAMES
            for scale, comparisons in SCALES.items()
            if (found := comparisons.get(name)) is not None
        ]
        show_table(console, ("name", "scale", "cells x seeds", "what is compared"), rows)
        return DONE


@dataclass(frozen=True)
class FillTables:
    """Put the tables of all small comparisons into Markdown pages, and a picture of each beside the JSON files."""

    results: Path = RESULTS
    """Folder of the JSON files."""
    document: Path = Path("docs/results")
    """The Markdown page that has a pair of markers for each comparison, or a folder of pages."""

    def run(self, console: Console) -> int:
        for path in fill_pages(self.results, self.document):
            say(console, f"Written: {path}")
        return DONE


@dataclass(frozen=True)
class Compare:
    """List the runs with their costs, train and score them, and write their table; repeat the command to resume.

    Under torchrun, all processes share each run.
    """

    name: tyro.conf.Suppress[tyro.conf.Fixed[str]]
    data: str | None = None
    """Data set to train on: Kinetics-600 or BAIR for the paper's comparisons; small ones take moving-digits without."""
    ucf101: str | None = None
    """UCF-101, for the comparisons that score or draw it."""
    scale: Scale | None = None
    """paper: the paper's presets and protocols; small: ours. If not given, paper with --data, small without."""
    dry_run: bool = False
    """List the runs, their costs and what is missing, and exit."""
    cells: tuple[str, ...] = ()
    """Labels of the cells to run; all if not given."""
    seeds: int | None = None
    """Training seeds of each cell; 1 at the paper's scale if not given."""
    first_seed: int = 0
    """The first of them; the others follow."""
    jobs: int = 1
    """Runs at a time, each in a process of its own; they share the cores, and take turns on the GPUs."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = ()
    """Settings in place of all others, such as training.microbatch=64; the table names them."""
    clips: tuple[int, ...] = ()
    """Numbers of the test clips that figure3 shows; some spread evenly if not given."""
    runs: Path = RUNS
    """Folder for the trainings."""
    results: Path = RESULTS
    """Folder for results, tables and measured paces."""

    def run(self, console: Console) -> int:
        comparison = find(self.name, self.scale, self.data)
        settings = parse_settings(self.settings)
        self._check(comparison)
        first = comparison.cells[0].config(0, None, settings).training
        device = choose_device(first.device, "training.device")
        said = console if is_first_process() else Console(quiet=True)
        with lasting_output(console):
            try:
                with interrupted_by_signals():
                    tasks, missing = self._plan(comparison, settings)
                    # Before the processes form a group, as a step within it would need all of them.
                    if is_first_process():
                        tasks = self._with_costs(comparison, tasks, missing, said)
                if self.dry_run:
                    return DONE
                with process_group(device, max(PATIENCE, first.patience)):
                    return self._run(comparison, broadcast_from_rank_0(tasks), said)
            except KeyboardInterrupt:
                return _stopped(said)

    def _check(self, comparison: Comparison) -> None:
        """Refuse options that contradict each other, and folders that cannot be written.

        Raises:
            TrivdError: an option is wrong.
        """
        for option, value, least in (
            ("jobs", self.jobs, 1),
            ("seeds", 1 if self.seeds is None else self.seeds, 1),
            ("first-seed", self.first_seed, 0),
        ):
            if value < least:
                raise TrivdError(f"--{option} is {value}; it must be at least {least}.")
        if self.jobs > 1 and started_processes() > 1:
            raise TrivdError("Under torchrun all processes share each run; leave --jobs out.")
        if self.clips and not comparison.motion:
            raise TrivdError(f"--clips belongs to figure3; leave it out for {self.name}.")
        for folder, option in ((self.runs, "--runs"), (self.results, "--results")):
            check_output_folder(folder, f"choose another {option}")
        check_outputs(comparison, self.results)

    def _plan(self, comparison: Comparison, settings: Changes) -> tuple[list[Task], list[str]]:
        """All runs, and sentences about what is missing for them.

        Raises:
            TrivdError: something is missing, and this is no dry run.
        """
        cells = [comparison.cell(label) for label in self.cells] or list(comparison.cells)
        seeds = range(self.first_seed, self.first_seed + (self.seeds or comparison.seeds))
        paths, missing = locate(data_sets(cells, comparison.motion), self.data, self.ucf101)
        tasks = [Task(comparison, cell, seed, None, paths, settings) for seed in seeds for cell in cells]
        missing += problems(tasks[: len(cells)])
        if missing and not self.dry_run:
            raise TrivdError(missing[0])
        if comparison.motion and not missing:
            check_clips(tasks[0], self.clips)
        return tasks, missing

    def _with_costs(
        self, comparison: Comparison, tasks: list[Task], missing: list[str], console: Console
    ) -> list[Task]:
        """The tasks with their numbers of steps, once they, their costs and what is missing are listed."""
        found = self._paces(comparison, tasks[0].settings, console)
        if comparison.seconds is not None and not isinstance(found, Reference):
            tasks = [replace(task, steps=steps_of(comparison, found[task.cell.label])) for task in tasks]
        done = []
        try:
            done = [] if missing else [task for task in tasks if task.is_done(self.results)]
        except TrivdError as error:  # results of other settings
            if not self.dry_run:
                raise
            missing = [str(error)]
        print_costs(tasks, found, done=done, processes=max(self.jobs, started_processes()), console=console)
        for sentence in missing:
            say(console, f"Not ready: {sentence}", "yellow")
        return tasks

    def _run(self, comparison: Comparison, tasks: list[Task], console: Console) -> int:
        """Train and score all, and write the table."""
        if self.jobs == 1:
            complete = run_here(tasks, self.runs, self.results, console)
        else:
            complete = run_at_once(tasks, self.jobs, self._words, runs=self.runs, results=self.results, console=console)
        if not complete:
            return _stopped(console)
        if rank() == 0:
            picture = motion_file(self.results, comparison)
            caption = "" if picture is None else draw_figure3(tasks[0], self.clips, self.runs, picture)
            written = write_comparison(comparison, self.results, caption)
            say(console, f"All {len(tasks)} runs are done. Written: {', '.join(map(str, written))}")
        barrier()
        return DONE

    def _paces(self, comparison: Comparison, settings: Changes, console: Console) -> dict[str, Pace] | Reference:
        """The pace of each small cell, or the step from which the paper's are estimated, with the threads of a run.

        Small cells whose time is set need none: neither their steps nor their costs depend on it.
        """
        minutes = [cell.config(0, None, settings).training.minutes for cell in comparison.cells]
        if comparison.scale == "small" and comparison.seconds is None and None not in minutes:
            return {}
        threads = threads_each(self.jobs)
        with cpu_threads(threads):
            if comparison.scale == "small":
                return paces(comparison, settings, self.results, console)
            return reference(settings, threads, self.results, console)

    def _words(self, task: Task) -> list[str]:
        """The command, after `trivd`, that does one task alone."""
        words = ["replicate", self.name, "--scale", task.comparison.scale]
        words += ["--cells", task.cell.label, "--seeds", "1", "--first-seed", str(task.seed)]
        words += ["--runs", str(self.runs), "--results", str(self.results)]
        words += ["--data", self.data] if self.data else []
        words += ["--ucf101", self.ucf101] if self.ucf101 else []
        return words + (["--set", *self.settings] if self.settings else [])


def _stopped(console: Console) -> int:
    say(console, "Stopped; all is saved. Repeat the command to resume.")
    return STOPPED


COMPARISONS: Any = Union[  # noqa: UP007  # of as many as there are
    tuple(
        Annotated[
            Compare,
            tyro.conf.subcommand(
                name,
                default=Compare(name),
                description="; ".join(own[name].about for own in SCALES.values() if name in own) + ".",
            ),
        ]
        for name in NAMES
    )
]


@dataclass(frozen=True)
class Replicate:
    """The paper's tables and figures, trained, scored and set beside the paper's."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[ListComparisons, tyro.conf.subcommand("list")]
        | Annotated[FillTables, tyro.conf.subcommand("tables")]
        | COMPARISONS
    ]

    def run(self, console: Console) -> int:
        return self.command.run(console)
