"""Lines and tables on the terminal: shown as they are, whatever they hold, however narrow it is, in any encoding."""

import codecs
import io
import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Sequences that begin with ESC could move the cursor, or write what was never said.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SPELLED = "trivd.spelled"  # how encodings that have not all characters take the others
IN_ASCII = {"±": "+-"}


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line, not broken at the terminal's width.

    Args:
        console: where.
        text: no markup is read from it; control characters, and those that the console has not, are replaced.
        style: of rich, such as "yellow" for a warning.
    """
    console.print(_shown(console, text, style), soft_wrap=True)


def show_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table; no word of it is cut, so that names can be typed as they are read.

    Args:
        console: where. If it is too narrow, each row becomes a few lines, one for each cell.
        header: of each column.
        rows: a cell for each column; see `say` for what is shown of it.
        title: above it.
    """
    headings, *lines = [[_shown(console, cell) for cell in line] for line in (header, *rows)]
    borders = 3 * len(headings) + 1
    widths = _column_widths([headings, *lines], console.width - borders)
    if widths is None:
        if title:
            say(console, title, "italic")
        for line in lines:
            for number, (heading, cell) in enumerate(zip(headings, line, strict=True)):
                say(console, f"{'  ' if number else ''}{heading.plain}: {cell.plain}", "" if number else "bold")
        return
    table = Table(title=_shown(console, title) if title else None)
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, width=width)
    for line in lines:
        table.add_row(*line)
    console.print(table)


@contextmanager
def log_shown(console: Console) -> Iterator[None]:
    """Within, what the library logs is shown as lines on a console."""
    logger, handler = logging.getLogger("trivd"), _ConsoleHandler(console)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        say(self._console, record.getMessage())


def take_any_text(stream: TextIO) -> None:
    """Let a stream write text of which its encoding has not all characters, where it would raise an error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=SPELLED)


def _shown(console: Console, text: str, style: str = "") -> Text:
    """Text that the console can show."""
    plain = CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return Text(plain.encode(console.encoding, SPELLED).decode(console.encoding), style)


def _column_widths(lines: Sequence[Sequence[Text]], room: int) -> list[int] | None:
    """Widths that break cells between words alone, `room` in all at most; None if that cannot be."""
    columns = [[cell.plain for cell in column] for column in zip(*lines, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    longest_words = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    while sum(widths) > room:
        spare = [number for number, width in enumerate(widths) if width > longest_words[number]]
        if not spare:
            return None
        widths[max(spare, key=widths.__getitem__)] -= 1
    return widths


def _spell(error: UnicodeError) -> tuple[str, int]:
    """What is written for characters that an encoding has not: signs in ASCII, letters without accents, else "?"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = ""
    for character in error.object[error.start : error.end]:
        letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        spelled += IN_ASCII.get(character) or letters or "?"
    return spelled, error.end


codecs.register_error(SPELLED, _spell)
