"""Signals to stop, obeyed where nothing is lost."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from trivd.data.processes import STOP_SIGNALS
from trivd.runtime.distributed import rank

ALWAYS_HANDLED = (signal.SIGINT, signal.SIGTERM)  # the others only where they would end the program
STDERR = 2


class Stopped(KeyboardInterrupt):
    """A signal to stop has interrupted work that can be repeated."""


class StopRequest:
    """Handler that notes a signal to stop; a Ctrl-C after it interrupts at once.

    Other signals after it do not: a batch system sends one to every process, and torchrun then another.
    """

    def __init__(self) -> None:
        self.received = False
        self._interrupting = False
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that was just forked, and does not ignore signals yet
            return
        if self.received:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = True
        if rank() == 0:
            _say_stopping(number)
        if self._interrupting:
            self._interrupting = False
            raise Stopped

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within, a signal to stop interrupts at once; so does one that has come before.

        Raises:
            Stopped: a signal has come.
        """
        self._interrupting = True
        try:
            if self.received:
                raise Stopped
            yield
        finally:
            self._interrupting = False


def _say_stopping(number: int) -> None:
    """Answer a signal at once, as stopping may take a while."""
    text = "Stopping, after this step at the latest, and saving"
    text += "; Ctrl-C again to end without that." if number == signal.SIGINT else "."
    # The terminal may be gone. Not by sys.stderr, which the signal may have interrupted in the middle of a write.
    with suppress(OSError):
        os.write(STDERR, f"\n{signal.Signals(number).name}: {text}\n".encode())


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within, signals to stop are noted, and obeyed at once only within `StopRequest.interrupting`.

    Signals that are ignored stay so, as SIGHUP under nohup. Outside of the main thread, which alone receives signals,
    none is noted.
    """
    request = StopRequest()
    with _handled(request):
        yield request


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within, a signal to stop raises KeyboardInterrupt, for work that can be interrupted anywhere.

    A second signal does so only if it is a Ctrl-C, so that clearing up is not interrupted.
    """
    received = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received and number != signal.SIGINT:
            return
        received = True
        raise KeyboardInterrupt

    with _handled(interrupt):
        yield


@contextmanager
def _handled(handler: "signal._HANDLER") -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [
        number for number in STOP_SIGNALS if number in ALWAYS_HANDLED or signal.getsignal(number) is signal.SIG_DFL
    ]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, earlier in zip(numbers, before, strict=True):
            signal.signal(number, earlier)
