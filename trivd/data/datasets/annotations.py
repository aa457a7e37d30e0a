"""Annotation files, in which data sets list their videos: their lines, and errors that name a line."""

from collections.abc import Iterator
from pathlib import Path

from trivd.runtime.errors import TrivdError

LONGEST_LINE = 1 << 16  # bytes


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, without a byte order mark.

    Raises:
        TrivdError: a line is not UTF-8 or too long, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
                if len(line) == LONGEST_LINE:
                    raise bad_line(path, number, f"it has {LONGEST_LINE:,} bytes or more")
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise bad_line(path, number, "it is not UTF-8 text") from error
    except OSError as error:
        raise TrivdError(f"{path} cannot be read: {error.strerror}.") from error


def bad_line(path: Path, number: int, why: str) -> TrivdError:
    """The error for a line, counted from 1, of an annotation file."""
    return TrivdError(f"{path}, line {number}: {why}; correct it, or download the list again.")
