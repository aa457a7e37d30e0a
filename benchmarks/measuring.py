"""Timing of alternatives in turn, and the record of what figures depend on: shared by all benchmarks."""

import datetime
import os
import platform
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from trivd.runtime.graphs import WARM_UPS, Record, record_cuda_graph
from trivd.runtime.hardware import processor

PACKAGES = ("trivd", "torch", "numpy", "av")
OURS, EAGER = "ours", "eager"


def _nothing() -> None:
    """Wait for nothing: on a CPU, work is done when a call returns."""


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    turns: int,
    warm_ups: int = 1,
    finish: Callable[[], object] = _nothing,
    clock: Callable[[], float] | None = None,
) -> dict[str, float]:
    """Median seconds of each way; they alternate, so that another load of the machine slows all of them alike.

    Args:
        ways: functions to time, by name.
        turns: turns that count.
        warm_ups: turns before them that do not count.
        finish: waits until everything that a way has started is done; see `finisher`.
        clock: that is read; None: of the wall. `time.process_time` counts the time on the processors alone.
    """
    now = clock or time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_ups + turns):
        for name, way in ways.items():
            start = now()
            way()
            finish()
            if turn >= warm_ups:
                seconds[name].append(now() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def take_recorded_turns(
    ways: Mapping[str, Callable[[], object]],
    turns: int,
    device: torch.device,
    calls: int,
    record: Record = record_cuda_graph,
) -> dict[str, float]:
    """Median seconds of a call of each way, on a GPU in a CUDA graph, as users run it.

    There, "eager" is ours without one: its time is mostly that of Python.

    Args:
        ways: functions to time, by name; one is "ours". They launch the same work at each call.
        turns: turns that count.
        device: that they work on.
        calls: in a graph; for short ones, starting the graph would take most of the time.
        record: how a way is recorded.
    """
    if device.type == "cpu":
        return take_turns(ways, turns)
    graphs = {name: recorded(name, way, calls, record) for name, way in ways.items()}
    seconds = take_turns(graphs, turns, finish=finisher(device))
    eager = take_turns({EAGER: ways[OURS]}, turns, finish=finisher(device))
    return {name: time / calls for name, time in seconds.items()} | eager


def recorded(
    name: str, way: Callable[[], object], calls: int, record: Record = record_cuda_graph
) -> Callable[[], object]:
    """Several calls of a way as one CUDA graph; if it cannot be recorded, these calls, which a warning says."""

    def repeated() -> None:
        for _ in range(calls):
            way()

    for _ in range(WARM_UPS):
        way()
    try:
        return record(repeated)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"{name} is timed without a CUDA graph, which could not be recorded: {reason}", stacklevel=2)
        return repeated


def finisher(device: torch.device) -> Callable[[], object]:
    """A function that waits for `device`: a GPU still works after a call has returned."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else _nothing


def ratios(seconds: Mapping[str, float], *pairs: tuple[str, str]) -> dict[str, float]:
    """The quotient of the seconds of each pair (a, b), called "a / b"; pairs not measured in full are left out.

    So "plain / ours" above 1 means that ours is faster.
    """
    return {f"{a} / {b}": seconds[a] / seconds[b] for a, b in pairs if a in seconds and b in seconds}


def _command() -> str:
    """The command that runs, without the folder that it is installed in."""
    program, *arguments = sys.argv
    script = Path(program).resolve()
    if script.stem in ("trivd", "__main__"):
        return shlex.join(["trivd", *arguments])
    if script.parent == Path(__file__).parent / "scripts":  # python -m benchmarks.scripts.NAME
        return shlex.join(["python", "-m", f"benchmarks.scripts.{script.stem}", *arguments])
    return shlex.join(["python", program, *arguments])


def _version(package: str) -> str:
    """The version of a package; "not installed" of one that runs from its sources, or is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def circumstances(device: torch.device) -> dict[str, Any]:
    """Date, command, versions and hardware."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "hardware": {
            "cpu": processor("model name") or platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
    }
