"""Lines and tables on a terminal of any width and encoding; their text is shown literally, whatever it holds."""

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

# Sequences that begin with ESC could move the cursor, or fake output.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SPELLED = "trivd.spelled"  # error handler for characters that an encoding lacks
IN_ASCII = {"±": "+-"}


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line, without wrapping it at the terminal's width.

    Args:
        console: console to print on.
        text: line without markup; control characters, and those that the console's encoding lacks, are replaced.
        style: style of rich, such as "yellow" for a warning.
    """
    console.print(_shown(console, text, style), soft_wrap=True)


def show_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table; no word of it is cut, so that names can be copied.

    Args:
        console: console to print on. If it is too narrow, each row becomes several lines, one for each cell.
        header: heading of each column.
        rows: rows with a cell for each column; see `say` for the characters that are replaced.
        title: line above the table.
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
    """Context within which the library's log messages are printed on a console, and nowhere else."""
    logger, handler = logging.getLogger("trivd"), _ConsoleHandler(console)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        say(self._console, record.getMessage())


def take_any_text(stream: TextIO) -> None:
    """Make a stream replace the characters that its encoding lacks, instead of raising an error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=SPELLED)


def _shown(console: Console, text: str, style: str = "") -> Text:
    """The text with all characters replaced that the console cannot show."""
    plain = CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return Text(plain.encode(console.encoding, SPELLED).decode(console.encoding), style)


def _column_widths(lines: Sequence[Sequence[Text]], room: int) -> list[int] | None:
    """Column widths, at most `room` in total, that wrap cells only between words; None if there are none."""
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
    """Replace characters that an encoding lacks: signs by ASCII, letters by those without accents, others by "?"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = ""
    for character in error.object[error.start : error.end]:
        letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        spelled += IN_ASCII.get(character) or letters or "?"
    return spelled, error.end


codecs.register_error(SPELLED, _spell)
