"""Signals to stop: noted, and obeyed where nothing is lost by it."""

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
    """A signal to stop has come where it need not be waited for."""


class StopRequest:
    """Set by a signal to stop; a Ctrl-C after that interrupts at once.

    Others after it do not: a batch system sends one to every process, and torchrun then another.
    """

    def __init__(self) -> None:
        self.received = False
        self._interrupting = False
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # one that was just forked, and does not ignore signals yet
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
        """Within, a signal to stop interrupts what is done, also one that came before.

        Raises:
            Stopped: it came.
        """
        self._interrupting = True
        try:
            if self.received:
                raise Stopped
            yield
        finally:
            self._interrupting = False


def _say_stopping(number: int) -> None:
    """Answer a signal at once: what follows may take a while."""
    text = "Stopping, after this step at the latest, and saving"
    text += "; Ctrl-C again to end without that." if number == signal.SIGINT else "."
    with suppress(OSError):  # the terminal may be gone; and no file of Python's, which may be in the middle of a write
        os.write(STDERR, f"\n{signal.Signals(number).name}: {text}\n".encode())


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within, signals to stop are noted; obeyed at once within `StopRequest.interrupting`.

    Those that are ignored stay so, as SIGHUP under nohup. Outside of the main thread, which alone is given signals,
    none are noted.
    """
    request = StopRequest()
    with _handled(request):
        yield request


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within, each signal to stop is a KeyboardInterrupt, for work that can be interrupted anywhere.

    One that follows another interrupts only if it is a Ctrl-C, so that what is half done can be removed in peace.
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
