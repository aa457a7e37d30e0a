"""The runs of a grid, one after another in this process, or several at a time in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from research.pace import threads_each
from research.runs import Task, run_task
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.training.stops import stop_on_signals

POLL_SECONDS = 0.2
TRIVD = (sys.executable, "-m", "trivd")


def run_here(tasks: Sequence[Task], runs: Path, results: Path, console: Console) -> bool:
    """All tasks in this process.

    Returns:
        whether all are done; False after a signal to stop, when all is saved.
    """
    for number, task in enumerate(tasks, start=1):
        say(console, f"{number}/{len(tasks)}: {task.cell.label}, seed {task.seed}")
        if not run_task(task, runs, results, console):
            return False
    return True


def run_at_once(tasks: Sequence[Task], jobs: int, runs: Path, results: Path, console: Console) -> bool:
    """The tasks in `jobs` processes at a time, which share the cores; the output of each goes to a file in `runs`/logs.

    Returns:
        whether all are done; False after a signal to stop, which is passed on, when all is saved.

    Raises:
        TrivdError: at the end, if some have failed.
    """
    waiting = [task for task in tasks if not task.is_done(results)]
    running: list[tuple[Task, subprocess.Popen[bytes]]] = []
    failed: list[str] = []
    logs = runs / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with stop_on_signals() as stop:
        while running or (waiting and not stop.received):
            while waiting and len(running) < jobs and not stop.received:
                task = waiting.pop(0)
                say(console, f"Starting {task.cell.label}, seed {task.seed}; {len(waiting)} wait.")
                running.append((task, _start(task, threads_each(jobs), runs, results, logs)))
            if stop.received:
                for _, process in running:
                    process.terminate()
                for _, process in running:
                    process.wait()
                return False
            time.sleep(POLL_SECONDS)
            for task, process in running:
                if process.poll():
                    failed.append(f"{task.cell.label} with seed {task.seed} (see {_log(task, logs)})")
                    say(console, f"Failed: {failed[-1]}", "red")
            running = [(task, process) for task, process in running if process.returncode is None]
    if failed and not stop.received:  # a signal may have reached the processes too, before they could save
        raise TrivdError(f"Some runs have failed: {'; '.join(failed)}. The others are done.")
    return not stop.received


def _start(task: Task, threads: int, runs: Path, results: Path, logs: Path) -> "subprocess.Popen[bytes]":
    """Start the command for this task alone, in a session of its own: only this process passes signals to it."""
    command = [*TRIVD, "replicate", "run", task.name, "--data", task.data]
    command += ["--cells", task.cell.label, "--seeds", str(task.seed), "--runs", str(runs), "--results", str(results)]
    with _log(task, logs).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )


def _log(task: Task, logs: Path) -> Path:
    return logs / f"{task.name}-{task.result(logs).stem}.log"
