"""Signals to stop, noted instead of obeyed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Set by Ctrl-C or SIGTERM; a Ctrl-C after that interrupts at once.

    A SIGTERM after it does not: a batch system sends one to every process, and torchrun then another.
    """

    def __init__(self) -> None:
        self.received = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within, signals to stop are noted instead of obeyed."""
    request = StopRequest()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
