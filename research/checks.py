"""What is missing before a comparison can be trained: data, splits, and the weights of I3D."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from research.comparison import Cell, DataSet
from research.figure3 import open_test_clips
from research.runs import Task
from trivd.config import Config
from trivd.data.clips import open_clips
from trivd.data.splits import Split
from trivd.evaluation.networks.choice import choose_network
from trivd.runtime.errors import TrivdError
from trivd.training.loop import open_splits

TITLES: dict[DataSet, str] = {
    "videos": "A folder of videos, or a store,",
    "kinetics600": "The folder of Kinetics-600",
    "bair": "The folder of BAIR robot pushing",
    "ucf101": "The folder of UCF-101",
}
OPTIONS: dict[DataSet, str] = {"ucf101": "--ucf101"}
DATA_OPTION = "--data"  # of all others


def data_sets(cells: Sequence[Cell], motion: bool) -> list[DataSet]:
    """The data sets that cells are trained and scored on, and motion is drawn on."""
    every: list[DataSet] = ["ucf101"] if motion else []
    for cell in cells:
        every += [cell.data, *(scoring.data for scoring in cell.scorings.values() if scoring.data is not None)]
    return list(dict.fromkeys(every))


def locate(needed: Sequence[DataSet], data: str | None, ucf101: str | None) -> tuple[dict[DataSet, str], list[str]]:
    """Where each data set is, and a sentence for each that the user has to name; these are left out.

    Args:
        needed: data sets.
        data: that of --data, which also takes the place of moving-digits.
        ucf101: that of --ucf101.
    """
    named = {own: ucf101 if own == "ucf101" else data for own in needed}
    if "moving-digits" in named:
        named["moving-digits"] = data or "moving-digits"
    missing = [
        f"{TITLES[own]} is not named; give {OPTIONS.get(own, DATA_OPTION)} PATH."
        for own, path in named.items()
        if path is None
    ]
    return {own: path for own, path in named.items() if path is not None}, missing


def problems(tasks: Sequence[Task]) -> Iterator[str]:
    """A sentence for each thing that would end a training or an evaluation: data that are not there, or no I3D.

    Tasks whose data the user has not named are passed over.
    """
    checks: dict[Any, Callable[[], object]] = {}  # each once
    for task in tasks:
        config = task.config
        if task.cell.data in task.paths:
            checks["train", task.data, config.data, config.model] = partial(open_splits, config, task.data)
        for name, scoring in task.cell.scorings.items():
            if (scoring.data or task.cell.data) in task.paths:
                scored, split, data = task.scored(name)
                weights = (scored.evaluation.features, scored.evaluation.i3d_weights)
                checks[data, split, scored.data, scored.model, weights] = partial(_open_scored, scored, split, data)
        if task.comparison.motion and "ucf101" in task.paths:
            checks["motion", config.model] = partial(open_test_clips, task)
    for check in checks.values():
        try:
            check()
        except TrivdError as error:
            yield str(error)


def _open_scored(config: Config, split: Split | None, data: str) -> None:
    """Open what an evaluation needs, or raise TrivdError."""
    clips = open_clips(data, split or "validation", config.data, config.model, exact=split is not None)
    choose_network(config.evaluation, clips, torch.device("cpu"))
