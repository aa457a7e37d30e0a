"""Damages files at random and gives them to trivd's readers: they may refuse, with TrivdError, and nothing else.

    python tests/fuzz/fuzz.py --minutes 30 [--json OUT.json] [--seed 0] [--only stores]

A finding is any other exception, a reader that takes more than 10 seconds or a gigabyte, or a process that dies; its
kind and seed make it again. Exit status: 0 nothing found, 1 findings.
"""

import json as json_format
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from mutate import mutate
from targets import TARGETS

from benchmarks.measuring import circumstances
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

PATIENCE = 10.0  # seconds for one file, on a machine that does other things too
CEILING = 1 << 30  # bytes that a file may make a process grow by
BATCH = 40  # files of one kind before the next has its turn


class Outcome(NamedTuple):
    """What a reader made of a file."""

    kind: str  # read, refused, or the finding
    detail: str = ""


def work(pipe: Connection, folder: Path) -> None:
    """Read files as they are asked for: (target, seed) -> Outcome."""
    torch.set_num_threads(1)
    sys.setrecursionlimit(1000)
    made: set[str] = set()
    while True:
        name, seed = pipe.recv()
        pipe.send(attempt(folder, name, seed, made))


def attempt(folder: Path, name: str, seed: int, made: set[str]) -> Outcome:
    """Damage a sound file and have it read."""
    target, root = TARGETS[name], folder / name.replace(" ", "-")
    if name not in made:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        target.make(root)
        made.add(name)
        try:
            target.read(root)
        except TrivdError as error:
            return Outcome("sound file refused", str(error)[:300])
    path = root / target.damaged[seed % len(target.damaged)]
    sound = path.read_bytes()
    path.write_bytes(mutate(sound, seed))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        target.read(root)
        outcome = Outcome("read")
    except TrivdError:
        outcome = Outcome("refused")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = Outcome(
            type(error).__name__, f"{path.name}: {error} ({Path(where.filename).name}:{where.lineno})"[:300]
        )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if grown > CEILING:
        outcome = Outcome("memory", f"{path.name}: {grown / 1e9:.1f} GB")
    path.write_bytes(sound)
    return outcome


class Worker:
    """A process that reads; replaced when it hangs or dies."""

    def __init__(self, folder: Path) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, folder), daemon=True)
        self.process.start()

    def ask(self, name: str, seed: int, patience: float) -> Outcome:
        try:
            self.pipe.send((name, seed))
            if not self.pipe.poll(patience):
                return Outcome("hang", f"more than {patience:.0f} s")
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return Outcome("crash", f"exit status {self.process.exitcode}")

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def main(minutes: float = 30.0, json: Path | None = None, seed: int = 0, only: str | None = None) -> None:
    """Fuzz.

    Args:
        minutes: in all.
        json: where to write counts and findings, with versions, hardware, date and command.
        seed: of the first file.
        only: one kind of file.
    """
    names = [only] if only else list(TARGETS)
    folder = Path(tempfile.mkdtemp(prefix="trivd-fuzz-"))
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    findings: list[dict[str, Any]] = []
    worker, end, number, fresh = Worker(folder), time.monotonic() + 60 * minutes, seed, True
    while time.monotonic() < end:
        for name in names:
            for _ in range(BATCH):
                # The first file waits for imports, and for the sound files to be made.
                first = fresh or not counts[name]
                outcome = worker.ask(name, number, 120.0 if first else PATIENCE)
                fresh = False
                counts[name][outcome.kind] += 1
                if outcome.kind not in ("read", "refused"):
                    findings.append({"kind": name, "seed": number, "finding": outcome.kind, "detail": outcome.detail})
                    print(findings[-1], flush=True)
                if outcome.kind in ("hang", "crash", "memory"):
                    worker.end()
                    worker, fresh = Worker(folder), True
                number += 1
            if time.monotonic() >= end:
                break
    worker.end()
    shutil.rmtree(folder)
    table = {name: dict(count) for name, count in counts.items()}
    for name, count in table.items():
        print(f"{name:20} {count}")
    print(f"{number - seed:,} files, {len(findings)} findings")
    if json is not None:
        facts = {"minutes": minutes, "seed": seed, "files": number - seed, "counts": table, "findings": findings}
        write_atomically(json, json_format.dumps(circumstances(torch.device("cpu")) | facts, indent=1).encode())
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    tyro.cli(main)
