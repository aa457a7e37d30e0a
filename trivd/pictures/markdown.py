"""Markdown tables, and documents whose tables are generated."""

import re
from collections.abc import Sequence
from pathlib import Path

from trivd.runtime.errors import TrivdError

BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"  # lines around a generated block


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Header and rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_document(document: Path) -> str:
    """The text of a Markdown file.

    Raises:
        TrivdError: it cannot be read.
    """
    try:
        return document.read_text("utf-8")
    except OSError as error:
        raise TrivdError(f"{document} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise TrivdError(f"{document} is not text in UTF-8; name a Markdown file.") from error


def fill(text: str, name: str, block: str, document: Path) -> str:
    """`text` with `block` between the markers of that name.

    Args:
        text: text of the document.
        name: name in the markers, such as "benchmark units".
        block: replaces what is between them.
        document: the file of the text, for the error message.

    Raises:
        TrivdError: the markers are missing.
    """
    begin, end = BEGIN.format(name), END.format(name)
    between = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not between.search(text):
        raise TrivdError(f"{document} has no place for {name}; add the lines {begin} and {end}.")
    return between.sub(lambda match: f"{begin}\n\n{block}\n\n{end}", text)
