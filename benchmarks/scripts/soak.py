"""Hours of training, evaluation and prediction in one process, to see whether its memory grows.

    python -m benchmarks.scripts.soak --hours 2

Memory, open files, threads and processes are read after every round, which trains a model of quickstart's size some
steps further, evaluates it, predicts with it, and writes its page. Every few rounds a new run begins: the log and the
page of a run grow with its length, and so does their memory. After the warm-up memory must stay within 2%, and
nothing else may grow. The record is written to --out as JSON.
"""

import argparse
import datetime
import gc
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.measuring import circumstances
from trivd.commands.main import main
from trivd.runtime.files import write_atomically

WARM_UP = 0.2  # share of the rounds
GROWTH = 0.02  # of memory, from the first to the last quarter after the warm-up
STEPS = 25  # of a round
RUN_ROUNDS = 6  # after which a new run begins


def used() -> dict[str, int]:
    """Bytes of private memory, open files, threads, and started processes of this process.

    Private are anonymous and shared memory, swapped out or not. Pages of library files do not count: they are loaded
    when code first runs, and dropped when the system needs room.
    """
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = sum(int(status[name].split()[0]) for name in ("RssAnon", "RssShmem", "VmSwap"))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "memory": kilobytes << 10,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "processes": len(children),
    }


def trivd(*arguments: object) -> None:
    """Run one command in this process; it must succeed."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{arguments[0]} ended with {end.code}") from end


def one_round(folder: Path, number: int) -> None:
    """Train further, evaluate, predict, and write the page."""
    round_of_run = number % RUN_ROUNDS
    if round_of_run == 0:
        shutil.rmtree(folder / "run", ignore_errors=True)
    run = folder / "run"
    evaluation = ["--evaluation.clips", 32, "--evaluation.standing-batches", 4, "--evaluation.best-of-clips", 8]
    options = [
        "--training.steps",
        STEPS * (round_of_run + 1),
        "--training.evaluate-every",
        STEPS,
        "--training.sample-every",
        STEPS,
    ]
    trivd("train", "moving-digits", "--preset", "quickstart", "--out", run, *options, *evaluation)
    trivd("evaluate", run, "--clips", 32, "--best-of-clips", 8, "--samples", 2, "--standing-batches", 4)
    clip = folder / "clip.npy"
    np.save(clip, np.random.default_rng(number).integers(256, size=(16, 32, 32, 3), dtype=np.uint8))
    shutil.rmtree(folder / "futures", ignore_errors=True)
    trivd("predict", clip, "--model", run, "--out", folder / "futures")
    trivd("report", run)


def growth(rounds: list[dict[str, int]]) -> dict[str, float]:
    """Growth from the median of the first quarter to that of the last: memory as a share, the others as numbers."""
    quarter = max(1, len(rounds) // 4)

    def ends(name: str) -> tuple[float, float]:
        first, last = (statistics.median(r[name] for r in part) for part in (rounds[:quarter], rounds[-quarter:]))
        return first, last

    before, after = ends("memory")
    counts = {name: ends(name) for name in ("files", "threads", "processes")}
    return {"memory": after / before - 1} | {name: last - first for name, (first, last) in counts.items()}


def soak(hours: float) -> dict[str, object]:
    """Run rounds for so many hours, and record the usage after each."""
    rounds: list[dict[str, int]] = []
    end = time.monotonic() + 3600 * hours
    said, sys.stdout = sys.stdout, io.StringIO()
    try:
        with tempfile.TemporaryDirectory() as folder:
            while time.monotonic() < end or len(rounds) < 8:
                one_round(Path(folder), len(rounds))
                rounds.append(used())
                sys.stdout.seek(0)
                sys.stdout.truncate()
                print(len(rounds), rounds[-1], file=said, flush=True)
    finally:
        sys.stdout = said
    grown = growth(rounds[int(WARM_UP * len(rounds)) :])
    passed = all(more <= (GROWTH if name == "memory" else 0) for name, more in grown.items())
    return {"growth": grown, "passed": passed, "rounds": rounds}


def run() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--out", type=Path, help="benchmarks/results/DATE-soak.json if not given")
    arguments = parser.parse_args()
    today = datetime.date.today().isoformat()
    record = circumstances(torch.device("cpu")) | {"hours": arguments.hours} | soak(arguments.hours)
    out = arguments.out or Path("benchmarks", "results", f"{today}-soak.json")
    write_atomically(out, json.dumps(record, indent=1).encode())
    Console().print(f"{'Passed' if record['passed'] else 'FAILED'}: growth {record['growth']}. Written: {out}")
    return 0 if record["passed"] else 1


if __name__ == "__main__":
    sys.exit(run())
