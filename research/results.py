"""From the runs of a grid to means and standard deviations, and to what these say of the paper's orderings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import dacite

from research.grids import Grid
from research.runs import read_result
from trivd.evaluation.outcome import Evaluation, Figure, Spread
from trivd.runtime.errors import TrivdError

MOTION = "end-point error [px]"
# 97.5% quantiles of Student's t with 1, 2, ... degrees of freedom.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)

Verdict = Literal["holds", "reversed", "not resolved"]


@dataclass(frozen=True)
class Row:
    """What the runs of a cell gave in one of the grid's evaluations.

    Args:
        cell: its label.
        evaluation: its name.
        paper: FVD; None where the paper gives none.
        figures: of the evaluation, each over the runs.
        steps: of each run.
        evaluations: one per seed.
    """

    cell: str
    evaluation: str
    paper: float | None
    figures: Mapping[str, Figure]
    steps: Spread
    evaluations: Sequence[Evaluation]

    @property
    def label(self) -> str:
        """In tables and plots."""
        return f"{self.cell}, {self.evaluation}" if self.evaluation else self.cell


@dataclass(frozen=True)
class Ordering:
    """Two cells, of which the paper found the first to have the lower FVD.

    Args:
        first: label.
        second: label.
        paper: second's FVD less the first's, above 0.
        difference: of our figure, above 0 where the second is worse.
        margin: of the difference at 95% confidence; None where no cell has two runs.
    """

    first: str
    second: str
    paper: float
    difference: float
    margin: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether the difference is further from none than its margin, and on which side."""
        if self.margin is None or abs(self.difference) <= self.margin:
            return "not resolved"
        return "holds" if self.difference > 0 else "reversed"


def read_results(folder: Path, name: str, grid: Grid) -> list[dict[str, Any]]:
    """The runs of a grid that are done, in the order of its cells and by seed.

    Raises:
        TrivdError: a file holds something else.
    """
    order = [cell.label for cell in grid.cells]
    found = [read_result(file) for file in sorted((folder / name).glob("*-seed*.json"))]
    return sorted(
        (values for values in found if values["cell"] in order),
        key=lambda values: (order.index(values["cell"]), values["seed"]),
    )


def rows(grid: Grid, results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row per cell and evaluation of which there is a result.

    Raises:
        TrivdError: a result is not of this version.
    """
    found = []
    for cell in grid.cells:
        own = [values for values in results if values["cell"] == cell.label]
        for name in grid.evaluations if own else ():
            evaluations = [_evaluation(values, name) for values in own]
            steps = Spread.of([float(values["steps"]) for values in own])
            found.append(Row(cell.label, name, cell.paper, _figures(evaluations), steps, evaluations))
    return found


def orderings(table: Sequence[Row], figure: str) -> list[Ordering]:
    """All pairs of rows whose FVDs the paper tells apart, by the size of its difference.

    The margin is that of Student's t with one standard deviation for all rows, since two or three seeds say little
    of that of each.

    Args:
        table: rows, of one evaluation each.
        figure: ours that stands for the paper's FVD, whether less of it is better or more.
    """
    known = [(row.paper, row) for row in table if row.paper is not None and figure in row.figures]
    deviation, freedom = pooled_deviation([row.figures[figure].model for _, row in known])
    pairs = []
    for (a, first), (b, second) in combinations(sorted(known, key=lambda pair: pair[0]), 2):
        ours, theirs = first.figures[figure].model, second.figures[figure].model
        sign = -1 if first.figures[figure].better == "higher" else 1
        difference = sign * (theirs.mean - ours.mean)
        margin = None
        if freedom:
            quantile = STUDENT[min(freedom, len(STUDENT)) - 1]
            margin = quantile * deviation * math.sqrt(1 / len(ours.runs) + 1 / len(theirs.runs))
        pairs.append(Ordering(first.label, second.label, b - a, difference, margin))
    return sorted(pairs, key=lambda pair: -pair.paper)


def pooled_deviation(spreads: Sequence[Spread]) -> tuple[float, int]:
    """Standard deviation within several groups taken to scatter alike, and its degrees of freedom."""
    several = [(spread.std, len(spread.runs) - 1) for spread in spreads if spread.std is not None]
    freedom = sum(own for _, own in several)
    return math.sqrt(math.fsum(own * std**2 for std, own in several) / max(1, freedom)), freedom


def mean_curves(row: Row) -> dict[str, dict[str, list[float]]]:
    """The curves of an evaluation by title, averaged over the seeds."""
    every = [evaluation.titled_curves for evaluation in row.evaluations]
    return {
        title: {
            name: [
                math.fsum(values) / len(values)
                for values in zip(*(curves[title][name] for curves in every), strict=True)
            ]
            for name in series
        }
        for title, series in every[0].items()
    }


def _evaluation(values: Mapping[str, Any], name: str) -> Evaluation:
    try:
        return dacite.from_dict(Evaluation, values["evaluations"][name], dacite.Config(strict=True))
    except (KeyError, TypeError, dacite.DaciteError) as error:
        raise TrivdError(
            f"The result of {values['cell']} with seed {values['seed']} is not of this version ({error}); move its "
            "file away and repeat the run."
        ) from error


def _figures(evaluations: Sequence[Evaluation]) -> dict[str, Figure]:
    """Each figure over the runs; the motion field's error among them."""
    by_run = [{figure.name: figure for figure in evaluation.figures} for evaluation in evaluations]
    figures = {
        name: Figure(
            name,
            figure.better,
            figure.digits,
            Spread.of([run[name].model.mean for run in by_run]),
            figure.copy,
            figure.truth,
        )
        for name, figure in by_run[0].items()
        if all(name in run for run in by_run)  # one that an earlier version did not have
    }
    motions = [evaluation.motion for evaluation in evaluations if evaluation.motion is not None]
    if motions:
        errors = {MOTION: [motion.model for motion in motions]}
        for level in (name for name in motions[0].levels if all(name in motion.levels for motion in motions)):
            errors[f"{MOTION}, unit at {level} alone"] = [motion.levels[level] for motion in motions]
        for name, values in errors.items():
            figures[name] = Figure(name, "lower", 2, Spread.of(values), motions[0].zero_motion, 0.0)
    return figures
