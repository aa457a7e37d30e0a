"""A comparison: cells that are trained and scored, the paper's figures beside them, and the scale of it all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trivd.config import Changes, Config, override
from trivd.evaluation.protocols import ProtocolName
from trivd.presets import preset
from trivd.runtime.errors import TrivdError

Scale = Literal["paper", "small"]
DataSet = Literal["moving-digits", "videos", "kinetics600", "bair", "ucf101"]  # "videos": any, named by the user


@dataclass(frozen=True)
class Published:
    """A figure of the paper, with its standard deviation where the paper gives one."""

    value: float
    std: float | None = None

    @property
    def text(self) -> str:
        """The figure with the paper's digits, such as "25.74 ± 0.66"."""
        return f"{self.value:,}" + ("" if self.std is None else f" ± {self.std}")


Paper = Mapping[str, Published]  # by name: "FVD", "IS", "steps", "ms per step", "GB"


@dataclass(frozen=True)
class Scoring:
    """One evaluation of a trained model.

    Args:
        protocol: protocol of the paper; None for the validation clips with the model's own settings.
        settings: settings of the evaluation that differ from these.
        data: data set; None is the one that the model was trained on.
    """

    protocol: ProtocolName | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: DataSet | None = None


@dataclass(frozen=True)
class Cell:
    """One setting of a comparison, trained with one or more seeds.

    Args:
        label: name in tables and file names.
        preset: name of the preset it starts from.
        data: data set to train on.
        scorings: evaluations by name; each run has all of them.
        changes: changes to the preset.
        paper: the paper's figures.
    """

    label: str
    preset: str
    data: DataSet
    scorings: Mapping[str, Scoring]
    changes: Changes = field(default_factory=dict)
    paper: Paper = field(default_factory=dict)

    def config(self, seed: int, steps: int | None, settings: Changes) -> Config:
        """The configuration of a run.

        Args:
            seed: seed of the training.
            steps: training steps; None takes the preset's.
            settings: settings of the user, which win over all others.
        """
        training = {"seed": seed} | ({} if steps is None else {"steps": steps})
        config = override(preset(self.preset), self.changes, f"cell {self.label}")
        config = override(config, {"training": training}, f"cell {self.label}")
        return override(config, settings, "--set")


@dataclass(frozen=True)
class Comparison:
    """What is compared, in cells that are trained and scored alike.

    Args:
        about: the comparison in words, with its place in the paper.
        records: name of its results.
        scale: "paper" for the paper's own presets and data, "small" for those of one's own machine.
        cells: settings that are compared.
        seeds: training seeds of each cell if the user names no other number.
        seconds: training time, from which each cell's pace gives its steps (Table 1); None takes the presets' steps.
        model: the model of a run that is scored: after the last step, or the best on training clips (4.1).
        copy: the paper's figures of copying the last frame.
        curves: whether its picture shows scores by predicted frame, the best of l samples among them (Figure 5).
        motion: whether its result is a picture of predictions with their motion fields on UCF-101 (Figure 3).
    """

    about: str
    records: str
    scale: Scale
    cells: tuple[Cell, ...]
    seeds: int = 1
    seconds: float | None = None
    model: Literal["best", "last"] = "best"
    copy: Paper = field(default_factory=dict)
    curves: bool = False
    motion: bool = False

    def cell(self, label: str) -> Cell:
        """The cell of that label.

        Raises:
            TrivdError: there is none.
        """
        for cell in self.cells:
            if cell.label == label:
                return cell
        raise TrivdError(f"There is no cell {label}; choose from {', '.join(cell.label for cell in self.cells)}.")


def file_name(label: str) -> str:
    """The name of a cell's files without their extension."""
    return "-".join(label.replace(",", "").split())
