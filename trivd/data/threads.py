"""Work of several threads that nobody need wait for."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_threads(function: Callable[[Job], Result], jobs: Sequence[Job], count: int) -> Iterator[Result]:
    """Results of all jobs, in their order, done by so many threads.

    An interruption waits for none of them, nor does the end of the program: they may wait for a disk that does not
    answer.

    Raises:
        Exception: what `function` raises, at its place in the order.
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
