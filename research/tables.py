"""`trivd replicate tables`: Markdown tables and pictures of the grids' runs; the same files give the same bytes."""

import os
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.grids import GRIDS
from research.pace import Pace, known_paces
from research.pages import Pages
from research.plots import picture
from research.records import Result, read_runs
from research.results import Ordering, Row, distance_name, orderings, present, rows
from trivd.evaluation.figures import ONE
from trivd.pictures.markdown import markdown_table
from trivd.pictures.plots import to_svg
from trivd.runtime.files import write_atomically
from trivd.training.collapse import first_collapse, has_worsened

STABILITY = "stability"  # the block about all grids together
COLUMNS = 100  # of a line of Markdown outside tables


def fill_pages(results: Path, place: Path) -> list[Path]:
    """Put the tables of all grids that have results between the pages' markers, and a picture of each beside the JSON.

    Args:
        results: folder of the results.
        place: Markdown file, or folder of several; the markers of a grid may stand in any of them.

    Returns:
        the files that were written.

    Raises:
        TrivdError: a result cannot be read, or the pages have no place for a grid.
    """
    pages, pictures = Pages(place), []
    everything: list[Result] = []
    for name, grid in GRIDS.items():
        found = read_runs(results, name, grid)
        if not found:
            continue
        everything += found
        table = rows(grid, found)
        parts = [_circumstances(found), _results_table(table, known_paces(results, name))]
        if verdicts := _orderings_table(table, present(table, (distance_name(table), f"SSIM, {ONE}"))):
            parts.append(verdicts)
        file = results / f"{name}.svg"
        page = pages.page(_block(name))
        link = Path(os.path.relpath(file, page.parent)).as_posix()
        parts.append(_wrapped(f"![{grid.about}]({link})"))
        pages.fill(_block(name), "\n\n".join(parts))
        pictures.append((file, to_svg(picture(table)).encode()))
    if everything:
        pages.fill(_block(STABILITY), _stability_table(everything))
    for file, data in pictures:  # only now, so that a page without a place leaves all as it was
        write_atomically(file, data)
    return [*pages.write(), *(file for file, _ in pictures)]


def _block(name: str) -> str:
    """The name in the markers of a grid's tables."""
    return f"replication {name}"


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, COLUMNS, break_long_words=False, break_on_hyphens=False)


def _circumstances(found: Sequence[Mapping[str, Any]]) -> str:
    """One line with data, hardware, versions, dates and duration of the trainings."""
    hours = sum(values["seconds"] for values in found) / 3600
    dates = sorted(values["date"][:10] for values in found)
    places = Counter(_place(values["hardware"]) for values in found)
    where = places.most_common()
    hardware = where[0][0] if len(where) == 1 else " or ".join(f"{place} ({count})" for place, count in where)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return _wrapped(
        f"{len(found)} trainings on {found[0]['data']}, {hours:.1f} hours in all, each on {hardware}, "
        f"torch {found[0]['versions']['torch']}, {period}. "
        "Mean ± unbiased standard deviation over training seeds."
    )


def _place(hardware: Mapping[str, Any]) -> str:
    device = hardware["cpu"] if hardware["device"] == "cpu" else hardware["device"]
    return f"{hardware['threads']} thread{'s' if hardware['threads'] > 1 else ''} of {device}"


def _results_table(table: Sequence[Row], paces: Mapping[str, Pace]) -> str:
    names = list(dict.fromkeys(name for row in table for name in row.figures))
    has_paper = any(row.paper is not None for row in table)
    header = ["cell", "n", *(["FVD in the paper"] if has_paper else []), *names, "steps"]
    header += ["ms per step", "GiB"] if paces else []
    lines = []
    for row in table:
        cells = [row.label, str(len(row.evaluations))]
        cells += ["" if row.paper is None else f"{row.paper:.1f}"] if has_paper else []
        for name in names:
            figure = row.figures.get(name)
            cells.append("" if figure is None else figure.model.text(figure.digits))
        cells.append(f"{row.steps.mean:,.0f}")
        if paces:
            cells += paces[row.cell].cells
        lines.append(cells)
    padding = ["", *([""] if has_paper else [])]
    for title, attribute in (("copy the last frame", "copy"), ("true clips", "truth")):
        values = [_baseline(table, name, attribute) for name in names]
        lines.append([title, *padding, *values, "", *(["", ""] if paces else [])])
    return markdown_table(header, lines)


def _baseline(table: Sequence[Row], name: str, attribute: str) -> str:
    figure = next(row.figures[name] for row in table if name in row.figures)
    value = getattr(figure, attribute)
    return "" if value is None else f"{value:.{figure.digits}f}"


def _orderings_table(table: Sequence[Row], names: Sequence[str]) -> str:
    """The paper's orderings beside ours, judged by each of several figures."""
    found = {name: orderings(table, name) for name in names}
    summaries = []
    lines: dict[tuple[str, str], list[str]] = {}
    for place, (name, pairs) in enumerate(found.items()):
        counts = Counter(pair.verdict for pair in pairs)
        summaries.append(
            f"By {name}, {counts['holds']} of the paper's {len(pairs)} orderings hold, {counts['reversed']} are "
            f"reversed, and {counts['not resolved']} are not resolved."
        )
        digits = next(row.figures[name].digits for row in table if name in row.figures)
        for pair in pairs:
            start = [f"{pair.first} better than {pair.second}", f"{pair.paper:.1f}", *[""] * len(found)]
            lines.setdefault((pair.first, pair.second), start)[2 + place] = _difference(pair, digits)
    if not lines:
        return ""
    header = ["the paper's ordering", "difference of FVD", *(f"by {name}" for name in found)]
    explained = (
        "A difference above 0 agrees with the paper. It is resolved where it exceeds its 95% margin (Student's t, one "
        "standard deviation for all cells); without any true difference, one in twenty still would."
    )
    return f"{_wrapped(' '.join([*summaries, explained]))}\n\n{markdown_table(header, list(lines.values()))}"


def _difference(pair: Ordering, digits: int) -> str:
    margin = "" if pair.margin is None else f" ± {pair.margin:.{digits}f}"
    return f"{pair.difference:+.{digits}f}{margin}: {pair.verdict}"


def _stability_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Trainings flagged as collapsed beside those whose distance worsened."""
    lines, seen = [], set()
    counts: Counter[tuple[bool, bool]] = Counter()
    for values in found:
        if values["weights"] in seen:  # a run that another grid shares
            continue
        seen.add(values["weights"])
        log = sorted([*values["losses"], *values["scores"]], key=lambda row: row["step"])
        flag, worsened = first_collapse(log), has_worsened(values["scores"])
        counts[flag is not None, worsened] += 1
        if flag is not None or worsened:
            lines.append(
                [
                    f"{values['grid']}: {values['cell']}, seed {values['seed']}",
                    "-" if flag is None else f"step {flag.step}: {flag.reason}",
                    "yes" if worsened else "no",
                ]
            )
    summary = _wrapped(
        f"Of {len(seen)} trainings, {counts[True, True]} were flagged and ended at more than twice their best distance "
        f"(hits), {counts[False, True]} ended so without a flag (misses), {counts[True, False]} were flagged and did "
        f"not (false alarms), {counts[False, False]} neither."
    )
    return summary + ("\n\n" + markdown_table(["run", "flag", "worsened"], lines) if lines else "")
