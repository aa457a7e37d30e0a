"""Bounds on the time and memory that a refusal takes in this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _memory(name: str) -> int:
    """Bytes that this process takes now (VmRSS), or took at most since it was reset (VmHWM)."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) << 10


@contextmanager
def quickly(seconds: float = 5.0) -> Iterator[None]:
    """Assert that the block takes at most so many seconds of CPU time in all its threads; other load is not counted."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


@contextmanager
def cheaply(room: int = 100 << 20) -> Iterator[None]:
    """Assert that the block takes at most so many bytes, and as little time as `quickly` allows."""
    if not RESET.exists():
        pytest.skip("the system does not say how much memory a process has taken")
    RESET.write_text("5")  # the most so far is what it has now
    before = _memory("VmRSS")
    with quickly():
        yield
    assert _memory("VmHWM") - before < room
