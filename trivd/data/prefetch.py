"""Batches that other processes read ahead of a training, in order, through memory that they share with it."""

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
Rest = TypeVar("Rest")
Fill = Callable[[Job, Pixels], Rest]  # reads a batch into an array and returns what else belongs to it
Warn = Callable[[str], None]

SHARED_MEMORY = Path("/dev/shm")
AHEAD = 2  # batches of each process that are read or wait
LOOK_SECONDS = 1.0  # between two looks at a process that has not answered
STALLED_SECONDS = 60.0  # without a batch, after which that is said


class PrefetchWorkers(Generic[Job, Rest]):
    """Processes that read batches; they start at once, and end with this object or by `close`.

    Nothing is passed on that could be lost: each batch has a place of its own in shared memory, all of which is taken
    from the system at the start, and a pipe says that it is there, or which error there was.

    Args:
        fill: reads a batch.
        jobs: what each batch is read from, without end.
        shape: of every batch.
        count: processes.
        warn: is given a sentence where fewer batches are read ahead than usual, or none comes for long.

    Raises:
        TrivdError: the shared memory has no place for a batch.
    """

    def __init__(
        self, fill: Fill[Job, Rest], jobs: Iterator[Job], shape: tuple[int, ...], count: int, warn: Warn
    ) -> None:
        self._places = share(AHEAD * count, shape, warn)
        self._jobs = jobs
        self._warn = warn
        context = multiprocessing.get_context()
        work = partial(_fill_place, fill, self._places)
        self._workers = [Worker(context, work) for _ in range(min(count, len(self._places.pixels)))]
        self._asked: deque[tuple[Worker, int]] = deque()
        for place in range(len(self._places.pixels)):
            self._ask(self._workers[place % len(self._workers)], place)

    def _ask(self, worker: Worker, place: int) -> None:
        worker.send((place, next(self._jobs)))
        self._asked.append((worker, place))

    def next(self) -> tuple[Pixels, Rest]:
        """The next batch, and what else belongs to it.

        Raises:
            WorkerLostError: a process has ended.
            Exception: what `fill` raised.
        """
        worker, place = self._asked.popleft()
        waited = 0.0
        while not worker.ready(LOOK_SECONDS):
            waited += LOOK_SECONDS
            if waited == STALLED_SECONDS:
                self._warn(
                    f"No clips have come for {waited:.0f} seconds: the disk that they lie on may not answer. Ctrl-C "
                    "stops the training, and saves it."
                )
        rest: Rest = worker.receive()
        pixels = self._places.pixels[place].copy()
        self._ask(worker, place)
        return pixels, rest

    def close(self) -> None:
        """End the processes, whatever they do."""
        for worker in self._workers:
            worker.end()


def _fill_place(fill: Fill[Job, Rest], places: "Places", job: tuple[int, Job]) -> Rest:
    torch.set_num_threads(1)  # the cores are for the training
    place, argument = job
    return fill(argument, places.pixels[place])


class Places:
    """Memory for some batches, that a process shares with those it starts.

    Args:
        file: a file as large as all of them.
        count: of batches.
        shape: of each.
    """

    def __init__(self, file: IO[bytes], count: int, shape: tuple[int, ...]) -> None:
        self._file = file  # closed with this object
        memory = mmap.mmap(file.fileno(), count * math.prod(shape))
        self.pixels: Pixels = np.frombuffer(memory, np.uint8).reshape(count, *shape)

    def __reduce__(self) -> tuple[Any, ...]:
        """For processes that are not forked from this one."""
        return _received, (DupFd(self._file.fileno()), *self.pixels.shape)


def _received(descriptor: Any, count: int, *shape: int) -> Places:
    return Places(os.fdopen(descriptor.detach(), "r+b", buffering=0), count, shape)


def share(count: int, shape: tuple[int, ...], warn: Warn) -> Places:
    """Shared memory for `count` batches, or for as many as there is room for.

    It has no name and is taken from the system here, so that it cannot run out later, nor outlive the processes.

    Raises:
        TrivdError: there is no room for one.
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
            continue  # somebody else was faster
        if fitting < count:
            warn(
                f"The shared memory ({folder}) has room for {fitting} of the {count} batches that are read ahead "
                f"({_mib(size)} each). Training may wait for clips: enlarge it (docker run --shm-size)."
            )
        return Places(file, fitting, shape)
    raise TrivdError(
        f"The shared memory ({folder}), through which clips come, is too small: a batch takes {_mib(size)}, and "
        f"{_mib(free // here)} are free. Enlarge it (docker run --shm-size), or repeat the command with "
        "--data.workers 0, which reads clips in the training process."
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
