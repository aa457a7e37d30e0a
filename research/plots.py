"""The picture of a comparison: its main figures by cell, or scores by predicted frame where many samples were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from research.comparison import Comparison
from research.results import MOTION, Row, distance_name, mean_curves, present
from trivd.evaluation.figures import COPY, ONE
from trivd.pictures.plots import BASELINE_COLOR, COLORS, METRICS, PANEL, frame_curves, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCEPTION = "IS"  # with the weights that the paper took
BEST = "best of 10"


def picture(comparison: Comparison, table: Sequence[Row]) -> Figure:
    """The picture of a comparison's rows, of which there is at least one."""
    if not comparison.curves:
        beside_paper = comparison.scale == "paper"
        names = (distance_name(table), *([INCEPTION] if beside_paper else []), f"SSIM, {ONE}", MOTION)
        return _figures_by_cell(table, present(table, names), beside_paper)
    cells = {row.cell for row in table}
    figure = frame_curves(_frame_scores(table[0]) if len(cells) == 1 else _best_by_cell(table))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    for legend in filter(None, (axis.get_legend() for axis in figure.axes)):
        legend.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)  # covers no curve
    return figure


def _frame_scores(row: Row) -> dict[str, dict[str, list[float]]]:
    """PSNR and SSIM by predicted frame, for one sample and the best of several."""
    curves = mean_curves(row)
    return {title: curves[title] for title in METRICS.values()}


def _best_by_cell(table: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """PSNR and SSIM of the best of ten samples by predicted frame, for each row."""
    scores = {row.label: _frame_scores(row) for row in table}
    first = next(iter(scores.values()))
    return {
        title: {COPY: first[title][COPY]} | {f"{label}, {BEST}": own[title][BEST] for label, own in scores.items()}
        for title in first
    }


def _figures_by_cell(table: Sequence[Row], names: Sequence[str], beside_paper: bool) -> Figure:
    """A panel per figure: each seed as a tick, mean and standard deviation as a dot with a bar, copying as a line.

    The paper's are diamonds.
    """
    figure, axes = panels(len(names), max(PANEL[1], 0.32 * len(table) + 1), shared_y=True)
    for axis, name in zip(axes, names, strict=True):
        for place, row in enumerate(table):
            if name not in row.figures:
                continue
            spread = row.figures[name].model
            axis.errorbar(spread.mean, place, xerr=spread.std or 0, fmt="o", color=COLORS[0], capsize=4)
            axis.plot(spread.runs, [place] * len(spread.runs), "|", color=COLORS[1], markersize=12)
        published = [(row.paper[name], place) for place, row in enumerate(table) if beside_paper and name in row.paper]
        if published:
            values, places = zip(*((figure.value, place) for figure, place in published), strict=True)
            axis.plot(values, places, "D", color=COLORS[2], markerfacecolor="none", label="the paper")
        copy = next(row.figures[name].copy for row in table if name in row.figures)
        if copy is not None:
            label = "no motion" if name == MOTION else COPY
            axis.axvline(copy, color=BASELINE_COLOR, linestyle="--", linewidth=1, label=label)
        if published or copy is not None:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)  # covers no figure
        axis.set_title(name, fontsize=11)
        axis.set_yticks(range(len(table)), [row.label for row in table])
        axis.set_ylim(len(table) - 0.5, -0.5)  # the first row on top
        axis.grid(axis="x", color="#e4e4e4", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
