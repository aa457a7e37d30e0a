"""Several models on the same clips: one table, one plot and one JSON report of their evaluations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from trivd.evaluation.figures import COPY, ONE
from trivd.evaluation.outcome import CURVE_TITLES, ESCAPED, HEADING, LINE, Evaluation, Figure
from trivd.evaluation.tables import NONE, number, with_direction
from trivd.pictures.html import Table
from trivd.pictures.markdown import markdown_table
from trivd.runtime.files import write_atomically

Evaluations = Mapping[str, Evaluation]  # by the name of the model
TRUTH = "truth"  # series that is the same for all models, as is that of copies
JOINT_FILE = "comparison.json"


def joint_table(evaluations: Evaluations) -> Table:
    """A row for each figure, and a column for each model; baselines are those of the first that has them."""
    kinds = {"copy": COPY, "truth": "true clips"}
    if all(one.protocol.sets for one in evaluations.values()):  # there are no given frames that could be copied
        del kinds["copy"]
    rows = []
    for name in _in_order([[*_absent(one), *_figures(one)] for one in evaluations.values()]):
        figures = [_figures(one).get(name) for one in evaluations.values()]
        known = [figure for figure in figures if figure is not None]
        cells = [
            _absent(one).get(name, NONE) if figure is None else figure.text
            for one, figure in zip(evaluations.values(), figures, strict=True)
        ]
        baselines = [number(getattr(known[0], kind), known[0].digits) if known else NONE for kind in kinds]
        rows.append([with_direction(known[0]) if known else name, *cells, *baselines])
    return Table(["figure", *evaluations, *kinds.values()], rows)


def joint_curves(evaluations: Evaluations) -> dict[str, dict[str, Sequence[float]]]:
    """Scores by predicted frame of all models, by title: copies, the truth, one sample of each, and its best."""
    curves: dict[str, dict[str, Sequence[float]]] = {}
    for score, (title, _) in CURVE_TITLES.items():
        for name, evaluation in evaluations.items():
            series = evaluation.curves.get(score, {})
            best = max((line for line in series if line.startswith("best of ")), key=_count, default=None)
            for line in (TRUTH, COPY, ONE, best):
                if line in series:
                    shown = line if line in (TRUTH, COPY) else name if line == ONE else f"{name}, {line}"
                    curves.setdefault(title, {}).setdefault(shown, series[line])
    return curves


def joint_protocols(evaluations: Evaluations) -> list[str]:
    """The protocol of each model."""
    return [f"{name}: {evaluation.protocol}" for name, evaluation in evaluations.items()]


def joint_warnings(evaluations: Evaluations) -> list[str]:
    """Each sentence beside the figures once."""
    return list(dict.fromkeys(line for evaluation in evaluations.values() for line in evaluation.warnings))


def joint_markdown(evaluations: Evaluations, plot: str) -> str:
    """A Markdown document.

    Args:
        evaluations: what to show.
        plot: path of the curves' picture, as seen from the file.
    """
    first = next(iter(evaluations.values()))
    table = joint_table(evaluations)
    parts = [f"{HEADING}{first.protocol.data}", markdown_table(table.header, table.rows)]
    if any(figure.interval for one in evaluations.values() for figure in one.figures):
        parts.append("In brackets: 95% intervals by the bootstrap over clips.")
    parts += [f"**{warning}**" for warning in joint_warnings(evaluations)]
    parts += [f"{line}." for line in joint_protocols(evaluations)]
    return "\n\n".join([*parts, f"![scores by predicted frame]({plot})"]) + "\n"


def save_joint(path: Path, evaluations: Evaluations) -> None:
    """Write all evaluations as one JSON file, with the protocols in words too."""
    values = {LINE: joint_protocols(evaluations), "models": {name: asdict(one) for name, one in evaluations.items()}}
    write_atomically(path, json.dumps(values, indent=2, ensure_ascii=False).encode(errors=ESCAPED))


def _figures(evaluation: Evaluation) -> dict[str, Figure]:
    return {figure.name: figure for figure in evaluation.figures}


def _absent(evaluation: Evaluation) -> dict[str, str]:
    return {absent.name: absent.text for absent in evaluation.absent}


def _in_order(lists: Sequence[Sequence[str]]) -> list[str]:
    """All names, each behind the one that it follows in its own list."""
    merged: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name not in merged:
                merged.insert(place, name)
            place = merged.index(name) + 1
    return merged


def _count(line: str) -> int:
    """The number that "best of 10" ends with."""
    return int(line.rsplit(" ", 1)[1])
