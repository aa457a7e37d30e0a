"""Means and standard deviations over the runs of a comparison, and whether they confirm the paper's orderings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import dacite

from research.comparison import Comparison, Paper
from trivd.evaluation.outcome import Evaluation, Figure, Spread
from trivd.runtime.errors import TrivdError

MOTION = "end-point error [px]"
DISTANCE = "FVD"  # in the paper, and how the names of Fréchet distances begin
# 97.5% quantiles of Student's t with 1, 2, ... degrees of freedom.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)

Verdict = Literal["holds", "reversed", "not resolved"]


@dataclass(frozen=True)
class Row:
    """The runs of a cell, scored by one of its evaluations.

    Args:
        cell: label of the cell.
        evaluation: name of the evaluation.
        paper: the paper's figures.
        figures: the evaluation's figures by name, each over the training seeds, or, of one seed, over the runs of its
            evaluation.
        steps: training steps of the runs.
        evaluations: the evaluations themselves, one per seed.
    """

    cell: str
    evaluation: str
    paper: Paper
    figures: Mapping[str, Figure]
    steps: Spread
    evaluations: Sequence[Evaluation]

    @property
    def label(self) -> str:
        """Name of the row in tables and plots."""
        return f"{self.cell}, {self.evaluation}" if self.evaluation else self.cell

    def over_seeds(self, name: str) -> Spread:
        """A figure over the training seeds alone, whose scatter decides on orderings."""
        figure = self.figures[name].model
        return figure if len(self.evaluations) > 1 else Spread.of([figure.mean])


@dataclass(frozen=True)
class Ordering:
    """Two cells, of which the paper found the first to have the lower FVD.

    Args:
        first: label of the better cell.
        second: label of the worse cell.
        paper: the second's FVD less the first's, above 0.
        difference: the same difference of our figure, above 0 where the second is worse.
        margin: margin of the difference at 95% confidence; None where no cell has two seeds.
    """

    first: str
    second: str
    paper: float
    difference: float
    margin: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether the difference exceeds its margin, and in which direction."""
        if self.margin is None or abs(self.difference) <= self.margin:
            return "not resolved"
        return "holds" if self.difference > 0 else "reversed"


def rows(comparison: Comparison, results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for each cell and evaluation that has a result.

    Raises:
        TrivdError: a result is not of this version.
    """
    found = []
    for cell in comparison.cells:
        own = [values for values in results if values["cell"] == cell.label]
        for name in cell.scorings if own else ():
            evaluations = [_evaluation(values, name) for values in own]
            steps = Spread.of([float(values["steps"]) for values in own])
            found.append(Row(cell.label, name, cell.paper, _figures(evaluations), steps, evaluations))
    return found


def orderings(table: Sequence[Row], figure: str) -> list[Ordering]:
    """All pairs of rows whose FVDs the paper tells apart, by the size of its difference.

    The margin is that of Student's t with one standard deviation pooled over all rows: two or three seeds tell
    little of each row's own.

    Args:
        table: rows of one evaluation.
        figure: name of our figure that stands for the paper's FVD; lower or higher values of it may be better.
    """
    known = [(row.paper[DISTANCE].value, row) for row in table if DISTANCE in row.paper and figure in row.figures]
    deviation, freedom = pooled_deviation([row.over_seeds(figure) for _, row in known])
    pairs = []
    for (a, first), (b, second) in combinations(sorted(known, key=lambda pair: pair[0]), 2):
        ours, theirs = first.over_seeds(figure), second.over_seeds(figure)
        sign = -1 if first.figures[figure].better == "higher" else 1
        difference = sign * (theirs.mean - ours.mean)
        margin = None
        if freedom:
            quantile = STUDENT[min(freedom, len(STUDENT)) - 1]
            margin = quantile * deviation * math.sqrt(1 / len(ours.runs) + 1 / len(theirs.runs))
        pairs.append(Ordering(first.label, second.label, b - a, difference, margin))
    return sorted(pairs, key=lambda pair: -pair.paper)


def pooled_deviation(spreads: Sequence[Spread]) -> tuple[float, int]:
    """Standard deviation within groups that are assumed to scatter alike, and its degrees of freedom."""
    several = [(spread.std, len(spread.runs) - 1) for spread in spreads if spread.std is not None]
    freedom = sum(own for _, own in several)
    return math.sqrt(math.fsum(own * std**2 for std, own in several) / max(1, freedom)), freedom


def distance_name(table: Sequence[Row]) -> str | None:
    """The name of the Fréchet distance among the figures, whatever its features; None if there is none."""
    return next((name for row in table for name in row.figures if name.startswith(DISTANCE)), None)


def present(table: Sequence[Row], names: Sequence[str | None]) -> list[str]:
    """The figures that some row has."""
    return [name for name in names if name is not None and any(name in row.figures for row in table)]


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
    """Each figure over the runs, the error of the motion field included."""
    by_run = [{figure.name: figure for figure in evaluation.figures} for evaluation in evaluations]
    figures = {
        name: Figure(
            name,
            figure.better,
            figure.digits,
            Spread.of([run[name].model.mean for run in by_run]) if len(by_run) > 1 else figure.model,
            figure.copy,
            figure.truth,
        )
        for name, figure in by_run[0].items()
        if all(name in run for run in by_run)  # earlier versions had fewer figures
    }
    motions = [evaluation.motion for evaluation in evaluations if evaluation.motion is not None]
    if motions:
        errors = {MOTION: [motion.model for motion in motions]}
        for level in (name for name in motions[0].levels if all(name in motion.levels for motion in motions)):
            errors[f"{MOTION}, unit at {level} alone"] = [motion.levels[level] for motion in motions]
        for name, values in errors.items():
            figures[name] = Figure(name, "lower", 2, Spread.of(values), motions[0].zero_motion, 0.0)
    return figures
