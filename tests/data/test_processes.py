"""Worker processes: every end of one and every error in one arrives, and none outlives or outwaits its parent."""

import errno
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from trivd.data.formats.frames import UnreadableVideo
from trivd.data.processes import STOP_SIGNALS, Worker, WorkerLostError, Workers
from trivd.runtime.errors import TrivdError

GENEROUS = 60.0  # seconds
UNREADABLE = UnreadableVideo(Path("a.mp4"), "truncated", "after 3 frames")


class DemandingError(Exception):
    """It can be packed, but not unpacked."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def fail(kind: str) -> object:
    """Raise an error of this kind, or return what cannot be packed."""

    class LocalError(Exception):
        pass

    if kind == "result":
        return threading.Lock()
    raise {
        "ordinary": ValueError("bad luck"),
        "local": LocalError("bad luck"),
        "demanding": DemandingError("bad", "luck"),
        "end": EOFError("bad luck"),
        "pipe": BrokenPipeError("bad luck"),
        "mendable": TrivdError("bad luck."),
        "unreadable": UNREADABLE,
        "full": OSError(errno.ENOSPC, "bad luck", "a.u8"),
        "memory": MemoryError("bad luck"),
    }[kind]


def act(name: str) -> object:
    """Do something to this process, or say that it is there."""
    match name:
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "sleep":
            time.sleep(10 * GENEROUS)
    return os.getpid()


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[Any], Any]], Worker]]:
    """A function that starts a worker."""
    workers: list[Worker] = []

    def started(function: Callable[[Any], Any]) -> Worker:
        workers.append(Worker(multiprocessing.get_context("fork"), function))
        return workers[-1]

    yield started
    for worker in workers:
        worker.end()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def result_of(worker: Worker, job: object) -> Any:
    worker.send(job)
    assert worker.ready(GENEROUS)
    return worker.receive()


def test_every_error_arrives_and_the_worker_goes_on(start: Callable[..., Worker]) -> None:
    """As itself where somebody can do something about it, else as a sentence."""
    worker = start(fail)
    for kind in ("ordinary", "local", "demanding", "end"):
        with pytest.raises(
            TrivdError, match=r"^A worker process failed: \w+: bad luck \(test_processes\.py, line \d+\)"
        ):
            result_of(worker, kind)
    with pytest.raises(TrivdError, match=r"^A worker process failed: TypeError: cannot pickle"):
        result_of(worker, "result")
    with pytest.raises(TrivdError, match=r"^bad luck\.$"):
        result_of(worker, "mendable")
    with pytest.raises(TrivdError, match=f"^{re.escape(str(UNREADABLE))}$"):
        result_of(worker, "unreadable")
    with pytest.raises(MemoryError):
        result_of(worker, "memory")
    with pytest.raises(OSError, match="bad luck") as full:
        result_of(worker, "full")
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "a.u8")
    with pytest.raises(OSError, match="bad luck"):
        result_of(worker, "pipe")


@pytest.mark.parametrize(("job", "how"), [("kill", "by SIGKILL"), ("exit", "with status 7")])
def test_a_worker_that_ends_is_lost(start: Callable[..., Worker], job: str, how: str) -> None:
    worker = start(act)
    worker.send(job)
    for _ in range(2):  # however often it is asked
        assert worker.ready(GENEROUS)
        with pytest.raises(WorkerLostError, match=how):
            worker.receive()
        worker.send("another")


def test_signals_to_stop_are_not_for_workers(start: Callable[..., Worker]) -> None:
    worker = start(act)
    pid = result_of(worker, "")
    for number in STOP_SIGNALS:
        os.kill(pid, number)
    assert result_of(worker, "") == pid


@pytest.mark.parametrize("job", ["stop", "sleep"])
def test_a_worker_that_does_not_answer_is_ended(start: Callable[..., Worker], job: str) -> None:
    worker = start(act)
    pid = result_of(worker, "")
    worker.send(job)
    assert not worker.ready(0.1)
    worker.end()
    assert not lives(pid)


def test_a_worker_ends_when_it_is_forgotten() -> None:
    worker = Worker(multiprocessing.get_context("fork"), act)
    pid = result_of(worker, "")
    del worker
    assert not lives(pid)


def test_interrupted_jobs_leave_nobody_behind() -> None:
    with Workers(2) as workers:
        results = workers.each(act, ["", "", "stop", "sleep"])
        pids = [int(str(next(results))) for _ in range(2)]
    assert not any(map(lives, pids))


def test_jobs_of_a_worker_that_is_killed_are_not_waited_for() -> None:
    with Workers(2) as workers:
        assert sorted(workers.each(abs, [-3, 1, -2])) == [1, 2, 3]
        with pytest.raises(TrivdError, match=r"A worker process was killed.*fewer --workers"):
            list(workers.each(act, ["", "kill", "sleep"]))


def keep_two_workers(pids: Connection) -> None:
    workers = [Worker(multiprocessing.get_context("fork"), act) for _ in range(2)]
    pids.send([result_of(worker, "") for worker in workers])
    workers[1].send("sleep")
    time.sleep(10 * GENEROUS)


def test_workers_end_with_a_parent_that_is_killed() -> None:
    """One waits for a job, the other is in the middle of one."""
    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.get_context("fork").Process(target=keep_two_workers, args=(theirs,))
    parent.start()
    assert ours.poll(GENEROUS)
    pids = ours.recv()
    parent.kill()
    parent.join()
    deadline = time.monotonic() + GENEROUS
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
