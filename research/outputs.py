"""What comparisons write: their collected runs, Markdown and picture, and the blocks of the documentation."""

import os
from pathlib import Path

from research.comparison import Comparison
from research.pace import known_paces
from research.pages import Pages
from research.plots import picture
from research.records import Result, collect, read_runs
from research.results import rows
from research.small import SMALL
from research.tables import changed_settings, comparison_parts, protocols, stability_table, wrapped
from trivd.pictures.plots import to_svg
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_file, write_atomically

STABILITY = "stability"  # the block about all comparisons together
WAY_OUT = "choose another --results"


def markdown_file(results: Path, comparison: Comparison) -> Path:
    """The Markdown file of a comparison, beside its collected runs."""
    return results / f"{comparison.records}.md"


def check_outputs(comparison: Comparison, results: Path) -> None:
    """Refuse a Markdown file that could not be written, or that is not the comparison's.

    Raises:
        TrivdError: it cannot be written, or holds something else.
    """
    file = markdown_file(results, comparison)
    check_output_file(file, WAY_OUT)
    if file.exists() and not file.read_bytes().startswith(_heading(comparison).encode()):
        raise TrivdError(f"{file} is not the table of {comparison.records}; move it away, or {WAY_OUT}.")


def write_comparison(comparison: Comparison, results: Path, caption: str = "") -> list[Path]:
    """Write the runs of a comparison to one JSON file, their table to Markdown, and a picture of its figures.

    Args:
        comparison: with runs in `results`.
        results: folder of the results.
        caption: what the picture of predictions with their motion shows, where there is one.

    Returns:
        the files that were written; none if there are no runs.

    Raises:
        TrivdError: a result cannot be read.
    """
    collected = collect(results, comparison)
    if collected is None:
        return []
    found = read_runs(results, comparison)
    parts = [_heading(comparison), *changed_settings(comparison, found)]
    parts += comparison_parts(comparison, found, known_paces(results, comparison.records))
    written = [collected]
    if drawn := _picture(comparison, found, results):
        written.append(drawn)
    if shown := drawn or motion_file(results, comparison):
        parts += [f"![{comparison.about}]({shown.name})", *([wrapped(caption)] if caption else [])]
    parts += protocols(comparison, found)
    file = markdown_file(results, comparison)
    write_atomically(file, ("\n\n".join(parts) + "\n").encode(errors="replace"))
    return [*written, file]


def motion_file(results: Path, comparison: Comparison) -> Path | None:
    """The picture of predictions with their motion (Figure 3); None for other comparisons."""
    return results / f"{comparison.records}.png" if comparison.motion else None


def fill_pages(results: Path, place: Path) -> list[Path]:
    """Put the tables of all small comparisons that have results between the pages' markers, and draw their pictures.

    The same results give the same bytes.

    Args:
        results: folder of the results.
        place: Markdown file, or folder of several; the markers of a comparison may stand in any of them.

    Returns:
        the files that were written.

    Raises:
        TrivdError: a result cannot be read, or the pages have no place for a comparison.
    """
    pages, drawn = Pages(place), []
    everything: list[Result] = []
    for comparison in SMALL.values():
        name = comparison.records
        found = read_runs(results, comparison)
        if not found:
            continue
        everything += found
        page = pages.page(_block(name))
        link = Path(os.path.relpath(_picture_file(results, comparison), page.parent)).as_posix()
        parts = comparison_parts(comparison, found, known_paces(results, name))
        pages.fill(_block(name), "\n\n".join([*parts, wrapped(f"![{comparison.about}]({link})")]))
        drawn.append((comparison, found))
    if everything:
        pages.fill(_block(STABILITY), stability_table(everything))
    # Only now, so that a page without a place leaves all as it was.
    pictures = [_picture(comparison, found, results) for comparison, found in drawn]
    return [*pages.write(), *filter(None, pictures)]


def _picture_file(results: Path, comparison: Comparison) -> Path:
    return results / f"{comparison.records}.svg"


def _picture(comparison: Comparison, found: list[Result], results: Path) -> Path | None:
    """Write the picture of a comparison's figures, if it has any."""
    table = rows(comparison, found)
    if not table:
        return None
    file = _picture_file(results, comparison)
    write_atomically(file, to_svg(picture(comparison, table)).encode())
    return file


def _heading(comparison: Comparison) -> str:
    return f"# {comparison.about}"


def _block(name: str) -> str:
    """The name in the markers of a comparison's tables."""
    return f"replication {name}"
