"""Curves of a run and of an evaluation, as matplotlib figures in colours that colour-blind readers can tell apart.

Figures are made without pyplot, so no global state changes and threads may draw. matplotlib is imported only where it
draws, because it takes a good part of a command's starting time and most commands draw nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from trivd.runtime.errors import TrivdError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, float]  # of the training log: "step", and a value per name; rows need not hold the same names

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BASELINE_COLOR = "#666666"
PANEL = (5.2, 3.4)  # inches
DOTS_PER_INCH = 110
METRICS = {"ssim": "SSIM", "psnr": "PSNR [dB]"}
DISTANCE = "distance"  # the series of the Fréchet distance in a training log


def loss_curves(rows: Iterable[Row]) -> Figure:
    """Losses by step: of each discriminator, of the generator against each, and of the reconstruction if it was used.

    Args:
        rows: the training log, with "loss/discriminator/<view>", "loss/generator/<view>", "loss/reconstruction".

    Raises:
        TrivdError: the log holds no loss.
    """
    series = _series(rows)
    shown = {
        "Discriminators (hinge loss)": _below(series, "loss/discriminator/"),
        "Generator (hinge loss)": _below(series, "loss/generator/"),
        "Reconstruction (mean absolute error)": {
            name: points for name, points in series.items() if name == "loss/reconstruction"
        },
    }
    shown = {title: lines for title, lines in shown.items() if lines}
    if not shown:
        raise TrivdError("The training log holds no losses yet; train for training.log_every steps or more.")
    figure, axes = panels(len(shown))
    for axis, (title, lines) in zip(axes, shown.items(), strict=True):
        for index, (name, (steps, values)) in enumerate(lines.items()):
            axis.plot(steps, values, color=COLORS[index % len(COLORS)], linewidth=1.2, label=name)
        _label(axis, title, x="step", y="loss")
        if len(lines) > 1:
            axis.legend()
    return figure


def score_curves(rows: Iterable[Row]) -> Figure:
    """SSIM, PSNR and Fréchet distance by step, on training and validation clips, beside copying the last given frame.

    Args:
        rows: the training log, with "score/train/ssim", "score/validation/ssim", "score/validation/copy_ssim" and the
            same of "psnr" and, where a feature network was used, of "distance".

    Raises:
        TrivdError: the log holds no score.
    """
    series = _series(rows)
    lines = (  # name, label, colour, format
        ("train/{}", "training clips", COLORS[0], "o-"),
        ("validation/{}", "validation clips", COLORS[1], "s-"),
        ("validation/copy_{}", "copy of the last frame, validation", BASELINE_COLOR, "--"),
    )
    scores = _below(series, "score/")
    if not scores:
        raise TrivdError("The training log holds no scores yet; train for training.evaluate_every steps or more.")
    metrics = METRICS | ({DISTANCE: "Fréchet distance"} if f"train/{DISTANCE}" in scores else {})
    figure, axes = panels(len(metrics))
    for axis, (metric, unit) in zip(axes, metrics.items(), strict=True):
        for name, label, color, style in lines:
            if name.format(metric) in scores:
                steps, values = scores[name.format(metric)]
                axis.plot(steps, values, style, color=color, label=label, markersize=4)
        _label(axis, f"{unit.split(' [')[0]} while training", x="step", y=unit)
        axis.legend()
    return figure


def frame_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Scores by predicted frame, one line per series, such as "best of 10", "one sample" or "copy" (Figure 5).

    Args:
        curves: title with its unit, "PSNR [dB]" -> series -> one value per predicted frame.
    """
    figure, axes = panels(len(curves))
    names = list(dict.fromkeys(name for lines in curves.values() for name in lines))  # one look in all panels
    for axis, (title, lines) in zip(axes, curves.items(), strict=True):
        for name, values in lines.items():
            index = names.index(name)
            color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
            label = name.replace("$", r"\$")  # no formula
            axis.plot(range(1, len(values) + 1), values, color=color, marker=marker, markersize=4, label=label)
        _label(axis, f"{title.split(' [')[0]} by time", x="predicted frame", y=title)
        axis.legend()
    return figure


def panels(count: int, height: float = PANEL[1], shared_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side; the height is in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(count * PANEL[0], height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=shared_y)[0])


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "trivd"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _series(rows: Iterable[Row]) -> dict[str, tuple[list[float], list[float]]]:
    """Name -> its steps and values."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                steps, values = series.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return series


def _below(
    series: Mapping[str, tuple[list[float], list[float]]], prefix: str
) -> dict[str, tuple[list[float], list[float]]]:
    """The series whose names start with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): points for name, points in series.items() if name.startswith(prefix)}


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_title(title, fontsize=11)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))  # steps and frames are whole
    axis.spines[["top", "right"]].set_visible(False)
