"""Work in several threads for which neither an interruption nor the end of the program waits."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Job], Result], jobs: Sequence[Job], count: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Call `function` on all jobs in `count` threads, and yield the results in the order of the jobs.

    The threads are daemons, since they may wait for a disk that does not answer.

    Args:
        function: of a job.
        jobs: of all threads together.
        count: of threads.
        ahead: how many jobs may be begun or done whose results have not been asked for; None: all.

    Raises:
        Exception: `function` raised it, for the job whose result is next.
    """
    futures: deque[Future[Result]] = deque(Future() for _ in jobs)
    left, lock, ended = iter(zip(list(futures), jobs, strict=True)), threading.Lock(), threading.Event()
    room = threading.Semaphore(len(jobs) if ahead is None else ahead)

    def work() -> None:
        while True:
            room.acquire()
            with lock:
                pair = None if ended.is_set() else next(left, None)
            if pair is None:
                return
            future, job = pair
            try:
                future.set_result(function(job))
            except BaseException as error:
                future.set_exception(error)

    threads = min(count, len(jobs))
    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    try:
        while futures:
            result = futures.popleft().result()
            room.release()
            yield result
    finally:
        ended.set()
        room.release(max(1, threads))  # for those that wait for it
