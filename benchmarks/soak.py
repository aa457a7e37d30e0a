"""Hours of training, evaluation and prediction in one process: does it keep what it takes, or take ever more?

    python -m benchmarks.soak --hours 2

Memory, open files, threads and processes are read after every round, which trains a model of quickstart's kind some
steps further, evaluates it, predicts with it, and writes its page. Every few rounds another run is begun: the log and
the page of a run grow with its length, and their memory with them. After the warm-up memory must stay within 2%, and
nothing else may grow. The record goes to --out as JSON.
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
RUN_ROUNDS = 6  # after which another run is begun


def used() -> dict[str, int]:
    """What this process holds: bytes of memory of its own, files, threads; and how many processes it has started.

    Its own are anonymous and shared memory, swapped out or not. Pages of libraries' files are not: they come in when
    code first runs, and go when the system needs room.
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
    """One command, in this process; it must end well."""
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
    """From the median of the first quarter to that of the last: of memory as a share, of the others in number."""
    quarter = max(1, len(rounds) // 4)

    def ends(name: str) -> tuple[float, float]:
        first, last = (statistics.median(r[name] for r in part) for part in (rounds[:quarter], rounds[-quarter:]))
        return first, last

    before, after = ends("memory")
    counts = {name: ends(name) for name in ("files", "threads", "processes")}
    return {"memory": after / before - 1} | {name: last - first for name, (first, last) in counts.items()}


def soak(hours: float) -> dict[str, object]:
    """Rounds for so many hours, and what was held after each."""
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
