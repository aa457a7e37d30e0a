"""Lines on the terminal: shown as they are, whatever names of files, classes and models hold."""

import re

from rich.console import Console
from rich.text import Text

# Sequences that begin with ESC could move the cursor, or write what was never said.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line, not broken at the terminal's width.

    Args:
        console: where.
        text: no markup is read from it, and control characters are replaced.
        style: of rich, such as "yellow" for a warning.
    """
    console.print(Text(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), style), soft_wrap=True)
