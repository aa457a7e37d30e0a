"""Batches that worker processes read ahead of training, in order, into shared memory."""

import math
import mmap
import multiprocessing
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import numpy as np
import torch

from trivd.data.processes import Worker
from trivd.runtime.errors import TrivdError, is_disk_full
from trivd.runtime.pixels import Pixels

Job = TypeVar("Job")
Info = TypeVar("Info")
Fill = Callable[[Job, Pixels], Info]  # reads a batch into an array, and returns its labels and the like
Warn = Callable[[str], None]

SHARED_MEMORY = Path("/dev/shm")
AHEAD = 2  # batches of each worker that are being read or wait
LOOK_SECONDS = 1.0  # between two checks of a worker that has not answered
STALLED_SECONDS = 60.0  # without a batch, after which there is a warning


class PrefetchWorkers(Generic[Job, Info]):
    """Worker processes that read batches; they start at once, and end with this object or by `close`.

    Each batch has a slot of its own in shared memory, which is allocated at the start; a pipe reports that the slot is
    filled, or the error.

    Args:
        fill: function that reads a batch.
        jobs: endless arguments of `fill`, one for each batch.
        shape: shape of every batch.
        count: number of processes.
        warn: callback for a message if fewer batches than usual are read ahead, or none comes for long.

    Raises:
        TrivdError: the shared memory has no room for a batch.
    """

    def __init__(
        self, fill: Fill[Job, Info], jobs: Iterator[Job], shape: tuple[int, ...], count: int, warn: Warn
    ) -> None:
        self._slots = allocate_slots(AHEAD * count, shape, warn)
        self._jobs = jobs
        self._warn = warn
        context = multiprocessing.get_context()
        work = partial(_fill_slot, fill, self._slots)
        self._workers = [Worker(context, work) for _ in range(min(count, len(self._slots.pixels)))]
        self._asked: deque[tuple[Worker, int]] = deque()
        for slot in range(len(self._slots.pixels)):
            self._ask(self._workers[slot % len(self._workers)], slot)

    def _ask(self, worker: Worker, slot: int) -> None:
        worker.send((slot, next(self._jobs)))
        self._asked.append((worker, slot))

    def next(self) -> tuple[Pixels, Info]:
        """The next batch, and what `fill` returned for it.

        Raises:
            WorkerLostError: a worker has ended.
            Exception: `fill` raised it.
        """
        worker, slot = self._asked.popleft()
        waited = 0.0
        while not worker.ready(LOOK_SECONDS):
            waited += LOOK_SECONDS
            if waited == STALLED_SECONDS:
                self._warn(
                    f"No clips have come for {waited:.0f} seconds: the disk that they lie on may not answer. Ctrl-C "
                    "stops the training, and saves it."
                )
        info: Info = worker.receive()
        pixels = self._slots.pixels[slot].copy()
        self._ask(worker, slot)
        return pixels, info

    def close(self) -> None:
        """Kill the processes."""
        for worker in self._workers:
            worker.end()


def _fill_slot(fill: Fill[Job, Info], slots: "BatchSlots", job: tuple[int, Job]) -> Info:
    torch.set_num_threads(1)  # the cores are for the training
    slot, argument = job
    return fill(argument, slots.pixels[slot])


class BatchSlots:
    """Slots for batches in memory that a process shares with those that it starts.

    Args:
        file: file as large as all slots.
        count: number of slots.
        shape: shape of a batch.
    """

    def __init__(self, file: IO[bytes], count: int, shape: tuple[int, ...]) -> None:
        self._file = file  # closed with this object
        memory = mmap.mmap(file.fileno(), count * math.prod(shape))
        self.pixels: Pixels = np.frombuffer(memory, np.uint8).reshape(count, *shape)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled form, for processes that are not forked from this one."""
        return _received, (DupFd(self._file.fileno()), *self.pixels.shape)


def _received(descriptor: Any, count: int, *shape: int) -> BatchSlots:
    return BatchSlots(os.fdopen(descriptor.detach(), "r+b", buffering=0), count, shape)


def allocate_slots(count: int, shape: tuple[int, ...], warn: Warn) -> BatchSlots:
    """Allocate shared memory for `count` batches, or for as many as there is room for.

    It has no name and is allocated here, so that it can neither run out later, nor outlive the processes.

    Raises:
        TrivdError: there is no room for one batch.
    """
    folder = SHARED_MEMORY
    if not os.access(folder, os.W_OK | os.X_OK):
        folder = Path(tempfile.gettempdir())
        warn(f"{SHARED_MEMORY} cannot be used here; clips are passed on in files in {folder}.")
    size = math.prod(shape)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share it
    free = shutil.disk_usage(folder).free
    for fitting in range(min(count, free // here // size), 0, -1):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is open as long as the processes
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, fitting * size)  # type: ignore[attr-defined, unused-ignore]
            else:
                file.truncate(fitting * size)
        except OSError as error:
            file.close()
            if not is_disk_full(error):
                raise
            continue  # another process was faster
        if fitting < count:
            warn(
                f"The shared memory ({folder}) has room for {fitting} of the {count} batches that are read ahead "
                f"({_mib(size)} each). Training may wait for clips: enlarge it (docker run --shm-size)."
            )
        return BatchSlots(file, fitting, shape)
    raise TrivdError(
        f"The shared memory ({folder}), through which clips come, is too small: a batch takes {_mib(size)}, and "
        f"{_mib(free // here)} are free. Enlarge it (docker run --shm-size), or repeat the command with "
        "--data.workers 0, which reads clips in the training process."
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
