"""The runs of a comparison, one after another in this process, or several at a time in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console

from research.pace import threads_each
from research.runs import Task, run_task
from trivd.runtime.console import say
from trivd.runtime.distributed import broadcast_from_rank_0
from trivd.runtime.errors import TrivdError
from trivd.training.stops import stop_on_signals

POLL_SECONDS = 0.2
TRIVD = (sys.executable, "-m", "trivd")
VISIBLE = "CUDA_VISIBLE_DEVICES"

Words = Callable[[Task], Sequence[str]]  # of the command line, after `trivd`, that trains this task alone


def run_here(tasks: Sequence[Task], runs: Path, results: Path, console: Console) -> bool:
    """The tasks that are not done yet, in this process.

    Returns:
        whether all are done; False after a signal to stop, when all is saved.
    """
    for number, task in enumerate(tasks, start=1):
        if broadcast_from_rank_0(task.is_done(results)):
            continue
        say(console, f"{number}/{len(tasks)}: {task.cell.label}, seed {task.seed}")
        if not run_task(task, runs, results, console):
            return False
    return True


def run_at_once(tasks: Sequence[Task], jobs: int, words: Words, *, runs: Path, results: Path, console: Console) -> bool:
    """The tasks in `jobs` processes at a time, which share cores and GPUs; the output of each goes to `runs`/logs.

    Returns:
        whether all are done; False after a signal to stop, which is passed on, when all is saved.

    Raises:
        TrivdError: at the end, if some have failed.
    """
    waiting = [task for task in tasks if not task.is_done(results)]
    running: dict[int, tuple[Task, subprocess.Popen[bytes]]] = {}  # by slot, of which each job takes one
    failed: list[str] = []
    logs = runs / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with stop_on_signals() as stop:
        while running or (waiting and not stop.received):
            for slot in range(jobs):
                if slot not in running and waiting and not stop.received:
                    task = waiting.pop(0)
                    say(console, f"Starting {task.cell.label}, seed {task.seed}; {len(waiting)} wait.")
                    running[slot] = task, _start(words(task), slot, threads_each(jobs), _log(task, logs))
            if stop.received:
                for _, process in running.values():
                    process.terminate()
                for _, process in running.values():
                    process.wait()
                return False
            time.sleep(POLL_SECONDS)
            for task, process in running.values():
                if process.poll():
                    failed.append(f"{task.cell.label} with seed {task.seed} (see {_log(task, logs)})")
                    say(console, f"Failed: {failed[-1]}", "red")
            running = {slot: job for slot, job in running.items() if job[1].returncode is None}
    if failed and not stop.received:  # a signal may have reached the processes too, before they could save
        raise TrivdError(f"Some runs have failed: {'; '.join(failed)}. The others are done.")
    return not stop.received


def _start(words: Sequence[str], slot: int, threads: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own: only this process passes signals to it."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*TRIVD, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)} | own_gpu(slot),
            start_new_session=True,
        )


def own_gpu(slot: int) -> dict[str, str]:
    """The variable that shows a job one of several GPUs alone; empty where there are not several."""
    count = torch.cuda.device_count()
    if count < 2:
        return {}
    names = os.environ.get(VISIBLE, "").split(",")
    return {VISIBLE: names[slot % count] if len(names) >= count else str(slot % count)}


def _log(task: Task, logs: Path) -> Path:
    return logs / f"{task.comparison.records}-{task.result(logs).stem}.log"
