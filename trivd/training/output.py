"""What a training prints: it never ends the training, also when its terminal or pipe is gone."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from rich.console import Console


class _LastingFile:
    """A text file; from the first write that fails on, what is written to it is dropped."""

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
        """Let the file write to nowhere: Python would fail once more at its end, with what is still to be written."""
        with suppress(OSError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)


@contextmanager
def lasting_output(console: Console) -> Iterator[None]:
    """Within, lines that cannot be written any more, as the terminal or the reader of a pipe is gone, are dropped."""
    file = console.file
    console.file = _LastingFile(file)  # type: ignore[assignment]
    try:
        yield
    finally:
        console.file = file
