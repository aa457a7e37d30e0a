"""`trivd replicate tables`: Markdown tables and plots of the runs' JSON files; the same files give the same bytes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research.grids import GRIDS, file_name
from research.pace import PACE_FILE, Pace, read_paces
from research.results import MOTION, Ordering, Row, mean_curves, orderings, read_results, rows
from trivd.evaluation.figures import ONE
from trivd.pictures.markdown import fill, markdown_table, read_document
from trivd.pictures.plots import BASELINE_COLOR, COLORS, PANEL, frame_curves, panels, to_svg
from trivd.runtime.files import write_atomically
from trivd.training.collapse import first_collapse, has_worsened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISTANCE_PREFIX = "FVD"  # of the figures' names, whatever the features


def fill_documents(results: Path, document: Path) -> list[Path]:
    """Put the tables of all grids that have results between the document's markers, and plots beside the JSON files.

    Returns:
        the files that were written.

    Raises:
        TrivdError: a result cannot be read, or the document has no place for a grid.
    """
    text = read_document(document)
    written = [document]
    everything: list[dict[str, Any]] = []
    for name, grid in GRIDS.items():
        found = read_results(results, name, grid)
        if not found:
            continue
        everything += found
        table = rows(grid, found)
        parts = [_circumstances(found), _results_table(table, _paces(results / name / PACE_FILE))]
        if verdicts := _orderings_table(table, _present(table, (_distance(table), f"SSIM, {ONE}"))):
            parts.append(verdicts)
        for stem, figure in _plots(table).items():
            path = results / name / f"{stem}.svg"
            write_atomically(path, to_svg(figure).encode())
            written.append(path)
            parts.append(_image(f"{grid.about}: {stem}", path, document))
        pictures = [(cell.label, results / name / f"{file_name(cell.label)}-seed0.png") for cell in grid.cells]
        parts += [f"{label}:\n\n{_image(label, path, document)}" for label, path in pictures if path.is_file()]
        text = fill(text, f"replication {name}", "\n\n".join(parts), document)
    if everything:
        text = fill(text, "replication stability", _stability_table(everything), document)
    write_atomically(document, text.encode())
    return written


def _image(about: str, path: Path, document: Path) -> str:
    return f"![{about}]({Path(os.path.relpath(path, document.parent)).as_posix()})"


def _circumstances(found: Sequence[Mapping[str, Any]]) -> str:
    """On what, when and how long."""
    hours = sum(values["seconds"] for values in found) / 3600
    dates = sorted(values["date"][:10] for values in found)
    places = Counter(_place(values["hardware"]) for values in found)
    where = places.most_common()
    said = where[0][0] if len(where) == 1 else " or ".join(f"{place} ({count})" for place, count in where)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (
        f"{len(found)} trainings on {found[0]['data']}, {hours:.1f} hours in all, each on {said}, "
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
    """The paper's orderings beside ours by each of some figures."""
    found = {name: orderings(table, name) for name in names}
    sums = []
    lines: dict[tuple[str, str], list[str]] = {}
    for place, (name, pairs) in enumerate(found.items()):
        counts = Counter(pair.verdict for pair in pairs)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("holds", "reversed", "not resolved"))
        sums.append(f"Of {len(pairs)} orderings of the paper, by {name}: {said}.")
        digits = next(row.figures[name].digits for row in table if name in row.figures)
        for pair in pairs:
            start = [f"{pair.first} better than {pair.second}", f"{pair.paper:.1f}", *[""] * len(found)]
            lines.setdefault((pair.first, pair.second), start)[2 + place] = _difference(pair, digits)
    if not lines:
        return ""
    header = ["the paper's ordering", "difference of FVD", *(f"by {name}" for name in found)]
    explained = (
        "A difference above 0 is the paper's ordering. It is resolved where it exceeds its 95% margin (Student's t, "
        "one standard deviation for all cells); with no true difference, one in twenty still would."
    )
    return f"{' '.join(sums)} {explained}\n\n{markdown_table(header, list(lines.values()))}"


def _difference(pair: Ordering, digits: int) -> str:
    margin = "" if pair.margin is None else f" ± {pair.margin:.{digits}f}"
    return f"{pair.difference:+.{digits}f}{margin}: {pair.verdict}"


def _stability_table(found: Sequence[Mapping[str, Any]]) -> str:
    """The collapse flag against what became of the distance."""
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
    summary = (
        f"Of {len(seen)} trainings, {counts[True, True]} were flagged and ended at more than twice their best distance "
        f"(hits), {counts[False, True]} ended so without a flag (misses), {counts[True, False]} were flagged and did "
        f"not (false alarms), {counts[False, False]} neither."
    )
    return summary + ("\n\n" + markdown_table(["run", "flag", "worsened"], lines) if lines else "")


def _plots(table: Sequence[Row]) -> dict[str, Figure]:
    """By file name: the main figures by cell, and curves where many samples were drawn."""
    plots = {"figures": _points(table, _present(table, (_distance(table), f"SSIM, {ONE}", MOTION)))}
    for row in table:
        if row.evaluations[0].protocol.samples >= 100:  # Figure 5
            plots[f"curves-{file_name(row.label)}"] = frame_curves(mean_curves(row))
    return plots


def _points(table: Sequence[Row], names: Sequence[str]) -> Figure:
    """A panel per figure: a dot per seed, mean and standard deviation, and copying as a line."""
    figure, axes = panels(len(names), max(PANEL[1], 0.32 * len(table) + 1), shared_y=True)
    for axis, name in zip(axes, names, strict=True):
        for place, row in enumerate(table):
            if name not in row.figures:
                continue
            spread = row.figures[name].model
            axis.errorbar(spread.mean, place, xerr=spread.std or 0, fmt="o", color=COLORS[0], capsize=4)
            axis.plot(spread.runs, [place] * len(spread.runs), "|", color=COLORS[1], markersize=12)
        copy = next(row.figures[name].copy for row in table if name in row.figures)
        if copy is not None:
            label = "no motion" if name == MOTION else "copy the last frame"
            axis.axvline(copy, color=BASELINE_COLOR, linestyle="--", linewidth=1, label=label)
            axis.legend(loc="best")
        axis.set_title(name, fontsize=11)
        axis.set_yticks(range(len(table)), [row.label for row in table])
        axis.set_ylim(len(table) - 0.5, -0.5)  # the first row on top
        axis.grid(axis="x", color="#e4e4e4", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _distance(table: Sequence[Row]) -> str | None:
    """Name of the Fréchet distance among the figures, if it is there."""
    return next((name for row in table for name in row.figures if name.startswith(DISTANCE_PREFIX)), None)


def _present(table: Sequence[Row], names: Sequence[str | None]) -> list[str]:
    """Those of the figures that a row has."""
    return [name for name in names if name is not None and any(name in row.figures for row in table)]


def _paces(file: Path) -> dict[str, Pace]:
    return read_paces(file) if file.is_file() else {}
