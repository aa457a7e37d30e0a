"""Tables of an evaluation, for the terminal, for Markdown, and for a run's page."""

from rich.console import Console

from trivd.evaluation.figures import COPY
from trivd.evaluation.outcome import COPIES, CURVE_TITLES, HEADING, Evaluation, Figure
from trivd.pictures.html import Table
from trivd.pictures.markdown import markdown_table
from trivd.runtime.console import say, show_table

NONE = "-"  # where there is no value


def tables(evaluation: Evaluation) -> list[Table]:
    """A table of the figures, then one of each score by predicted frame; each carries the protocol."""
    note = str(evaluation.protocol)
    model = f"model, mean ± std of {evaluation.protocol.runs} runs" if evaluation.protocol.runs > 1 else "model"
    if any(figure.interval for figure in evaluation.figures):
        model = "model [95% interval over clips]"
    header = ["figure", model, COPY, "true clips"]
    rows = [
        [
            with_direction(figure),
            figure.text,
            number(figure.copy, figure.digits),
            number(figure.truth, figure.digits),
        ]
        for figure in evaluation.figures
    ]
    rows = [[absent.name, absent.text, NONE, NONE] for absent in evaluation.absent] + rows
    if evaluation.motion:
        motion = evaluation.motion
        name = (
            f"end-point error of the motion field, {motion.combined_text} [px], {motion.clips} clips; "
            "zero motion as copy (lower is better)"
        )
        rows.append([name, f"{motion.model:.2f}", f"{motion.zero_motion:.2f}", NONE])
        for level, error in motion.levels.items():
            name = f"the same of the unit at {level} x {level} alone"
            rows.append([name, f"{error:.2f}", f"{motion.zero_motion:.2f}", NONE])
    if evaluation.protocol.subject == COPIES:  # there is no model
        header, *rows = ([name, *values] for name, _, *values in (header, *rows))
        rows[: len(evaluation.absent)] = [[absent.name, absent.text, NONE] for absent in evaluation.absent]
    if evaluation.protocol.sets:  # there are no given frames that could be copied
        header, *rows = ([*values[:2], *values[3:]] for values in (header, *rows))
    result = [Table(header, rows, note)]
    for score, series in evaluation.curves.items():
        title, digits = CURVE_TITLES[score]
        columns = [[*values, sum(values) / len(values)] for values in series.values()]
        names = [*map(str, range(1, evaluation.protocol.predicted_frames + 1)), "mean"]
        lines = [
            [name, *(f"{value:.{digits}f}" for value in values)] for name, *values in zip(names, *columns, strict=True)
        ]
        result.append(Table([f"{title}, predicted frame", *series], lines, note))
    return result


def print_tables(evaluation: Evaluation, console: Console) -> None:
    """Print the tables, and the protocol once at the end."""
    for table in tables(evaluation):
        show_table(console, table.header, table.rows)
    for warning in evaluation.warnings:
        say(console, warning, "yellow")
    say(console, f"Protocol: {evaluation.protocol}")


def markdown(evaluation: Evaluation, plot: str) -> str:
    """A Markdown document.

    Args:
        evaluation: what to show.
        plot: path of the curves' picture, as seen from the file.
    """
    parts = [f"{HEADING}{evaluation.protocol.data}"]
    parts += [markdown_table(table.header, table.rows) for table in tables(evaluation)]
    parts += [f"**{warning}**" for warning in evaluation.warnings]
    return "\n\n".join([*parts, f"Protocol: {evaluation.protocol}.", f"![scores by predicted frame]({plot})"]) + "\n"


def with_direction(figure: Figure) -> str:
    """The figure's name, and whether more or less of it is better."""
    return f"{figure.name} ({figure.better} is better)" if figure.better in ("lower", "higher") else figure.name


def number(value: float | None, digits: int) -> str:
    """A value, or what stands where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"
