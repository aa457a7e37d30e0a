"""The processes that share the work on a data set: workers on this machine, and those that torchrun started.

Both end at once, and leave nobody behind, when one of them is stopped or killed.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Self, TypeVar

from trivd.distributed import rank, world_size
from trivd.errors import TrivdError

Job = TypeVar("Job")
Result = TypeVar("Result")


class Workers:
    """Processes that do jobs; with one or none of them, this process does.

    They start at the first jobs, and share one import of what they need where the system can fork.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None
        self._lifeline: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if self._pool is None or self._lifeline is None:
            return
        if error is not None:  # in the middle of jobs
            self._lifeline.close()
        self._pool.shutdown(cancel_futures=True)
        self._lifeline.close()

    def each(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Do `function` with each job; both travel between processes. Results come as they are ready.

        Raises:
            TrivdError: a worker was killed.
        """
        if self._count <= 1 or len(jobs) <= 1:
            yield from map(function, jobs)
            return
        self._pool = self._pool or self._start()
        try:
            for future in as_completed([self._pool.submit(function, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise TrivdError(
                "A worker process was killed, perhaps because memory ran out; what is finished is kept: repeat the "
                "command to go on, with fewer --workers."
            ) from error

    def _start(self) -> ProcessPoolExecutor:
        # Forked from a clean process: this one may have threads, whose locks a fork would copy as they stand.
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        context.set_forkserver_preload(["trivd.data.prepare"])
        theirs, self._lifeline = context.Pipe(duplex=False)
        return ProcessPoolExecutor(self._count, context, _start_worker, (theirs,))


def _start_worker(lifeline: Connection) -> None:
    """Live as long as the other end of `lifeline`, which closes when its process stops, or is killed."""

    def wait() -> None:
        try:
            lifeline.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)  # in the middle of whatever the main thread does

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, but the first one decides
    threading.Thread(target=wait, daemon=True).start()


class Ranks:
    """This process's share among those that torchrun started; without torchrun, all."""

    def __init__(self) -> None:
        self.rank = rank()
        self.world = world_size()
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.cores = max(1, usable // here)  # of this machine, for this process

    def share(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """This process's part of the jobs: every n-th of n processes."""
        return jobs[self.rank :: self.world]

    def owns(self, number: int) -> bool:
        """Whether job `number` is in its share."""
        return number % self.world == self.rank
