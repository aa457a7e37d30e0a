"""Pages of one HTML file: text, tables, pictures and videos inside it, readable without a network."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from trivd.runtime.files import write_atomically

Mime = Literal["image/png", "image/gif", "image/svg+xml", "video/mp4"]


@dataclass(frozen=True)
class Picture:
    """An image or a video, encoded by `trivd.pictures.draw` or `plots`. A GIF is shown with hard pixels."""

    caption: str
    data: bytes  # the file's content
    mime: Mime

    @property
    def source(self) -> str:
        """The file as a data URI."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class Table:
    """A table, whose cells are shown as they are."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""  # a line below the table, such as the protocol of its numbers


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph or "", and pictures and tables in order; neighbouring pictures stand side by side."""

    heading: str
    text: str
    items: Sequence[Picture | Table]


@dataclass(frozen=True)
class Page:
    """A title, a summary and sections."""

    title: str
    summary: Sequence[str]  # sentences, one line each: what was trained, on which data, for how long
    sections: Sequence[Section]


def write_page(path: Path | str, page: Page) -> None:
    """Write the page to `path`, usually `.../index.html`; folders are created, an old page is replaced in one step.

    Raises:
        OSError: the folder cannot be made or written.
    """
    environment = Environment(
        loader=PackageLoader("trivd.pictures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["picture"] = lambda item: isinstance(item, Picture)
    text = environment.get_template("page.html").render(page=page)
    write_atomically(path, text.encode(errors="replace"))  # names of files need not be valid text
