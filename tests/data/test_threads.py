"""Threads whose work comes in order, and which keep nobody from ending."""

import subprocess
import sys
import threading
import time

import pytest

from trivd.data import threads
from trivd.data.threads import in_threads

GENEROUS = 60  # seconds


def test_results_come_in_order_from_several_threads() -> None:
    together = threading.Barrier(3, timeout=GENEROUS)

    def work(number: int) -> tuple[int, int]:
        together.wait()  # only if three work at a time
        time.sleep(0.001 * (5 - number % 5))
        return number, threading.get_ident()

    numbers, workers = zip(*in_threads(work, range(30), 3), strict=True)
    assert list(numbers) == list(range(30))
    assert len(set(workers)) == 3
    assert list(in_threads(abs, [], 3)) == []


def test_an_error_comes_in_its_place_and_ends_the_work() -> None:
    done = []

    def work(number: int) -> int:
        done.append(number)
        time.sleep(0.001)
        return 10 // (3 - number)

    results = in_threads(work, range(1000), 2)
    assert [next(results) for _ in range(3)] == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(done) < 1000


def test_no_more_are_begun_than_asked_for() -> None:
    begun: list[int] = []
    results = in_threads(begun.append, range(100), 3, ahead=5)
    for taken in range(1, 4):
        next(results)
        time.sleep(0.05)
        assert len(begun) == taken + 5
    before = threading.active_count()
    results.close()
    time.sleep(0.05)
    assert threading.active_count() == before - 3
    assert list(in_threads(abs, range(-9, 0), 4, ahead=1)) == list(range(9, 0, -1))


HANGING = """
import os, runpy, signal, sys, threading
in_threads = runpy.run_path(sys.argv[1])["in_threads"]
signal.signal(signal.SIGINT, signal.default_int_handler)
def wait(number):
    if number == 2:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    os.read(os.pipe()[0], 1)  # as a disk that does not answer
try:
    list(in_threads(wait, range(100), 3))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_nobody_waits_for_a_disk_that_does_not_answer() -> None:
    command = [sys.executable, "-c", HANGING, threads.__file__]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=GENEROUS)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("interrupted\n", "", 0)
