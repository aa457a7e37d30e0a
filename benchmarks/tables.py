"""`trivd benchmark tables`: Markdown tables and plots of the suites' JSON files; the same files give the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import describe, is_record
from benchmarks.suite import Bar, Suite, shown
from trivd.pictures.markdown import fill, markdown_table, read_document
from trivd.pictures.plots import BASELINE_COLOR, COLORS, PANEL, panels, to_svg
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def records(folder: Path) -> dict[Path, dict[str, Any]]:
    """The suites' files in a folder by path, in alphabetical order, without JSON files of other kinds.

    Raises:
        TrivdError: there is none, or a file is damaged.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            values = json.loads(path.read_text())
        except ValueError as error:
            raise TrivdError(f"{path} is not a JSON file: {error}; remove or repair it.") from error
        if is_record(values):
            found[path] = values
    if not found:
        raise TrivdError(f"{folder} has no file of `trivd benchmark`; write one with `trivd benchmark warp --json`.")
    return found


def suite_table(suite: type[Suite], values: dict[str, Any]) -> str:
    """A record's rows under a line with hardware, versions and date."""
    columns = shown(suite.columns, values["rows"])
    rows = [[column.cell(row) for column in columns] for row in values["rows"]]
    return f"{describe(values)}.\n\n" + markdown_table([column.heading for column in columns], rows)


def plot(suite: type[Suite], values: dict[str, Any]) -> Figure | None:
    """The bars of a record in panels side by side; None for suites without a plot."""
    bars = [bar for row in values["rows"] for bar in suite.bars(row)]
    titles = list(dict.fromkeys(bar.panel for bar in bars))
    if not titles:
        return None
    tallest = max(len({(bar.label, bar.series) for bar in bars if bar.panel == title}) for title in titles)
    figure, axes = panels(len(titles), max(PANEL[1], 0.22 * tallest + 1))
    for axis, title in zip(axes, titles, strict=True):
        _draw(axis, [bar for bar in bars if bar.panel == title])
        axis.set_title(title, fontsize=11)
        axis.set_xlabel(suite.bar_axis)
    return figure


def _draw(axis: Any, bars: Sequence[Bar]) -> None:
    """Horizontal bars, one group per label."""
    labels = list(dict.fromkeys(bar.label for bar in bars))
    series = list(dict.fromkeys(bar.series for bar in bars))
    height = 0.8 / len(series)
    for index, name in enumerate(series):
        own = [bar for bar in bars if bar.series == name]
        places = [labels.index(bar.label) + (index - (len(series) - 1) / 2) * height for bar in own]
        axis.barh(places, [bar.value for bar in own], height, label=name, color=COLORS[index % len(COLORS)])
    axis.axvline(1, color=BASELINE_COLOR, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()  # the first row on top
    axis.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=len(series))  # beside no bar


def fill_tables(folder: Path, document: Path, suites: Sequence[type[Suite]]) -> list[Path]:
    """Put the tables of `folder` between the document's markers, and the plots beside the JSON files.

    Returns:
        the files that were written.

    Raises:
        TrivdError: the folder has no record, the document cannot be read, or has no place for a suite.
    """
    found = records(folder)
    text = read_document(document)
    written = [document]
    for suite in suites:
        parts = []
        for path, values in found.items():
            if values["suite"] != suite.name:
                continue
            parts.append(suite_table(suite, values))
            figure = plot(suite, values)
            if figure is not None:
                picture = path.with_suffix(".svg")
                write_atomically(picture, to_svg(figure).encode())
                written.append(picture)
                link = Path(os.path.relpath(picture, document.parent)).as_posix()
                parts.append(f"![{suite.title}]({link})")
        if parts:
            text = fill(text, f"benchmark {suite.name}", "\n\n".join(parts), document)
    write_atomically(document, text.encode())
    return written
