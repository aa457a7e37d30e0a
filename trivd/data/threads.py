"""Work in several threads for which neither an interruption nor the end of the program waits."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_threads(function: Callable[[Job], Result], jobs: Sequence[Job], count: int) -> Iterator[Result]:
    """Call `function` on all jobs in `count` threads, and yield the results in the order of the jobs.

    The threads are daemons, since they may wait for a disk that does not answer.

    Raises:
        Exception: `function` raised it, for the job whose result is next.
    """
    futures: list[Future[Result]] = [Future() for _ in jobs]
    left, lock, ended = iter(zip(futures, jobs, strict=True)), threading.Lock(), threading.Event()

    def work() -> None:
        while not ended.is_set():
            with lock:
                pair = next(left, None)
            if pair is None:
                return
            future, job = pair
            try:
                future.set_result(function(job))
            except BaseException as error:
                future.set_exception(error)

    for _ in range(min(count, len(jobs))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for future in futures:
            yield future.result()
    finally:
        ended.set()
