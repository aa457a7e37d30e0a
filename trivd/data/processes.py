"""Worker processes on this machine, and the share of the work of each process that torchrun started.

Workers end at once, without orphans, when they or their parent are stopped or killed.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Self, TypeVar

from trivd.runtime.distributed import rank, world_size
from trivd.runtime.errors import TrivdError

Job = TypeVar("Job")
Result = TypeVar("Result")

# Signals by which terminals and batch systems ask a program to end: SIGINT by Ctrl-C; SIGTERM by all; SIGHUP by a
# closed terminal or a lost connection; SIGUSR1, SIGUSR2 and SIGXCPU some time before a job is killed (SLURM, LSF,
# Grid Engine).
STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
END_SECONDS = 5.0  # to wait for a killed process; one that waits for a broken disk may never end


class WorkerLostError(Exception):
    """A worker process has ended by itself; the message says how."""


class Worker:
    """A process that does jobs one after the other; it ends with this object, and with this process.

    A job, its result and its error go through a pipe, and are pickled where a failure can be reported. Workers ignore
    the signals to stop: this process handles them, and ends its workers itself.

    Args:
        context: start method of the process.
        function: function that does a job.
    """

    def __init__(self, context: BaseContext, function: Callable[[Any], Any]) -> None:
        self.connection, theirs = context.Pipe()
        # For mypy a context has no processes: each start method has a class of its own.
        self._process = context.Process(target=_work, args=(function, theirs), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        theirs.close()  # else the worker's end would not be noticed here
        self.end = weakref.finalize(self, _end, self._process, self.connection, os.getpid())

    def send(self, job: object) -> None:
        """Queue a job."""
        with suppress(OSError):  # it has ended, which `receive` reports
            self.connection.send(job)

    def ready(self, seconds: float) -> bool:
        """Whether `receive` would return or raise at once, after waiting up to `seconds` for it."""
        return self.connection.poll(seconds)

    def receive(self) -> Any:
        """The result of the oldest job.

        Raises:
            WorkerLostError: the process has ended.
            TrivdError: the job raised it, or an unexpected error, which the message names.
            OSError, MemoryError: the job raised them.
        """
        try:
            failure, result = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(END_SECONDS)
            code = self._process.exitcode
            how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with status {code}"
            raise WorkerLostError(f"it ended {how}") from error
        if failure is not None:
            kind, values = failure
            raise kind(*values)
        return result


def _end(process: Any, connection: Connection, owner: int) -> None:
    """Kill the process, stopped or not; a process forked later, which has only copies, does nothing."""
    if os.getpid() == owner:
        process.kill()
        process.join(END_SECONDS)
        connection.close()


def _work(function: Callable[[Any], Any], connection: Connection) -> None:
    """Do jobs until this process is killed or its parent ends."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has ended
        while True:
            job = connection.recv()
            connection.send_bytes(_answer(function, job))


def _answer(function: Callable[[Any], Any], job: object) -> bytes:
    """The pickled answer: the type and arguments of the error that the parent raises, or None, and the result."""
    try:
        return pickle.dumps((None, function(job)))
    except TrivdError as error:
        return pickle.dumps(((TrivdError, (str(error),)), None))
    except OSError as error:
        return pickle.dumps(((OSError, (error.errno, error.strerror or str(error), error.filename)), None))
    except MemoryError:
        return pickle.dumps(((MemoryError, ()), None))
    except Exception as error:  # it may be one that cannot be pickled or unpickled
        return pickle.dumps(((TrivdError, (unexpected("A worker process failed", error),)), None))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # whatever the main thread is doing


def unexpected(what: str, error: Exception) -> str:
    """The message about an unexpected error, which asks for a report."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{what}: {type(error).__name__}: {error}".rstrip(".")
    return f"{said} ({Path(place.filename).name}, line {place.lineno}). What is finished is kept; please report this."


class Workers:
    """A pool of worker processes; a pool of one or none does the jobs in this process.

    They start with the first jobs, and share one import of the package where the system can fork.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def each(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Call `function`, which must be picklable, on each job; yield the results as they are ready.

        Raises:
            TrivdError: a worker was killed.
        """
        if self._count <= 1 or len(jobs) <= 1:
            yield from map(function, jobs)
            return
        while len(self._workers) < min(self._count, len(jobs)):
            self._workers.append(Worker(_clean_context(), _call))
        left = iter(jobs)
        busy: dict[Any, Worker] = {}
        for worker, job in zip(self._workers, left, strict=False):
            worker.send((function, job))
            busy[worker.connection] = worker
        try:
            while busy:
                for connection in wait(list(busy)):
                    worker = busy.pop(connection)
                    result = worker.receive()
                    for job in left:
                        worker.send((function, job))
                        busy[connection] = worker
                        break
                    yield result
        except WorkerLostError as error:
            raise TrivdError(
                "A worker process was killed, perhaps because memory ran out; what is finished is kept: repeat the "
                "command to resume, with fewer --workers."
            ) from error


def _call(job: tuple[Callable[[Job], Result], Job]) -> Result:
    function, argument = job
    return function(argument)


def _clean_context() -> BaseContext:
    """Start method that forks a clean process: this one may have threads, whose locks a fork would copy."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["trivd.data.store.prepare"])
    return context


class RankShare:
    """This rank's share of the work; without torchrun, all of it."""

    def __init__(self) -> None:
        self.rank = rank()
        self.world = world_size()
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.cores = max(1, usable // here)  # of this machine that this process may use

    def of(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """This rank's jobs: every n-th one of n ranks."""
        return jobs[self.rank :: self.world]

    def owns(self, number: int) -> bool:
        """Whether job `number` is in this rank's share."""
        return number % self.world == self.rank
