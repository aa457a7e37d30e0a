"""Printing that never ends a training, even when its terminal or pipe is gone."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from rich.console import Console


class _LastingFile:
    """A text file that drops everything from the first failing write on."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        try:
            return self._file.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Redirect the file to /dev/null, or Python would fail at its exit, with what is still buffered."""
        with suppress(OSError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)


@contextmanager
def lasting_output(console: Console) -> Iterator[None]:
    """Within, lines are dropped once the terminal or the reader of a pipe is gone."""
    file = console.file
    console.file = _LastingFile(file)  # type: ignore[assignment]
    try:
        yield
    finally:
        console.file = file
