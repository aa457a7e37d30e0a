"""The comparisons of the paper at a size that a small machine can train, with their scoring and the paper's figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from trivd.config import Changes, Config, Decomposition, override
from trivd.data.clips import MOVING_DIGITS
from trivd.presets import TABLE2_UNITS, preset
from trivd.runtime.errors import TrivdError

FINAL: dict[str, dict[str, Any]] = {"": {"clips": 2_048, "best_of_clips": 128}}  # more clips than during training


@dataclass(frozen=True)
class Cell:
    """One setting of a grid, trained with several seeds.

    Args:
        label: name in tables and file names.
        changes: changes to the grid's preset.
        paper: the paper's FVD; None where it gives none.
    """

    label: str
    changes: Changes
    paper: float | None = None


@dataclass(frozen=True)
class Grid:
    """A comparison: all its cells are trained from the same preset and scored alike.

    Args:
        about: the comparison in words, with its place in the paper.
        preset: name of the preset that the cells change.
        cells: settings that are compared.
        seeds: number of seeds of each cell: 0, 1, ...
        seconds: training time, from which each cell's pace gives its steps (Table 1); None takes the preset's steps.
        data: data set to train on; None if the user has to name one.
        evaluations: name -> settings of the evaluation; each run is scored with all of them.
    """

    about: str
    preset: str
    cells: tuple[Cell, ...]
    seeds: int
    seconds: float | None = None
    data: str | None = MOVING_DIGITS
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: FINAL)

    def cell(self, label: str) -> Cell:
        """The cell of that label.

        Raises:
            TrivdError: there is none.
        """
        for cell in self.cells:
            if cell.label == label:
                return cell
        raise TrivdError(f"There is no cell {label}; choose from {', '.join(cell.label for cell in self.cells)}.")

    def config(self, cell: Cell, seed: int, steps: int | None) -> Config:
        """The configuration of a run, with `steps` in place of the preset's unless it is None."""
        training = {"seed": seed} | ({} if steps is None else {"steps": steps})
        config = override(preset(self.preset), cell.changes, f"cell {cell.label}")
        return override(config, {"training": training}, f"cell {cell.label}")


# Tables 1 and 2, column FVD.
TABLE1_FVD: dict[Decomposition, float] = {
    "clip": 59.6,
    "downsampled": 122.1,
    "cropped": 159.9,
    "cropped_downsampled": 44.1,
    "mocogan_k1": 47.4,
    "mocogan_k8": 46.2,
    "dvd_gan_fp": 55.0,
    "faster": 46.1,
    "stronger": 39.3,
}
assert set(TABLE1_FVD) == set(get_args(Decomposition))
TABLE2_FVD = dict(zip(TABLE2_UNITS, (51.3, 49.4, 45.9, 44.2, 43.7, 45.8, 47.1), strict=True))


def file_name(label: str) -> str:
    """The name of a cell's files without their extension."""
    return "-".join(label.replace(",", "").split())


def _cell(label: str, unit: str, decomposition: str, paper: float | None = None, **discriminator: str) -> Cell:
    changes = {"model": {"unit": unit}, "discriminator": {"decomposition": decomposition, **discriminator}}
    return Cell(label, changes, paper)


GRIDS: dict[str, Grid] = {
    "units": Grid(
        "Recurrent units, equal steps, decomposition faster (Table 2)",
        "comparison",
        tuple(_cell(unit, unit, "faster", paper) for unit, paper in TABLE2_FVD.items()),
        seeds=3,
    ),
    "decompositions": Grid(
        "Discriminator decompositions, equal training time, conv_gru (Table 1)",
        "comparison",
        tuple(_cell(name, "conv_gru", name, paper) for name, paper in TABLE1_FVD.items()),
        seeds=2,
        seconds=450,
    ),
    "head": Grid(
        "Answers of the discriminators, equal steps, conv_gru and dvd_gan_fp (E.1)",
        "comparison",
        (
            _cell("mixed_projection", "conv_gru", "dvd_gan_fp", 55.0, head="mixed_projection"),
            _cell("projection", "conv_gru", "dvd_gan_fp", 64.2, head="projection"),
        ),
        seeds=3,
    ),
    "classes": Grid(
        "Conditioning on the class of the nearest digit, against the dummy class (4.1)",
        "comparison",
        (
            Cell("dummy class", {"discriminator": {"decomposition": "faster"}}),
            Cell("ten classes", {"discriminator": {"decomposition": "faster"}, "model": {"classes": 10}}),
        ),
        seeds=3,
    ),
    "truncation": Grid(
        "Truncation of z, and the best of l samples (D.1, Figure 5)",
        "comparison",
        (_cell("tsru_p", "tsru_p", "faster"),),
        seeds=3,
        evaluations={
            "none": FINAL[""] | {"samples": 100, "truncation": None},
            "0.8": FINAL[""] | {"samples": 100, "truncation": 0.8},
            "zero": FINAL[""] | {"samples": 2, "truncation": 0.0},
        },
    ),
    "motion": Grid(
        "Motion fields after twice the steps with ten times the L1, which shows a unit where content went",
        "comparison",
        tuple(
            Cell(
                unit,
                {
                    "model": {"unit": unit},
                    "discriminator": {"decomposition": "faster"},
                    "training": {"steps": 2_000, "reconstruction": 1000.0},
                },
            )
            for unit in ("tsru_p", "tsru_s", "ptsru_s", "k_traj_gru")
        ),
        seeds=1,
    ),
    "recipes": Grid(
        "Rates and weights beside the recipe's, tsru_p: what makes a training collapse",
        "comparison",
        tuple(
            Cell(label, {"discriminator": {"decomposition": "faster"}, "training": changes})
            for label, changes in {
                "the recipe": {},
                "no L1": {"reconstruction": 0.0},
                "no orthogonality": {"orthogonality": 0.0},
                "discriminators at 2e-3": {"discriminator_lr": 2e-3},
                "generator at 1.5e-2": {"generator_lr": 1.5e-2},
                "rates of the paper, no L1": {"generator_lr": 1e-4, "discriminator_lr": 5e-4, "reconstruction": 0.0},
            }.items()
        ),
        seeds=2,
    ),
    "weizmann": Grid(
        "Real videos, with adversarial losses alone and with L1 to the mean of the samples",
        "weizmann",
        tuple(
            Cell(f"{unit}, {name}", {"model": {"unit": unit}, "training": {"reconstruction": weight}})
            for name, weight in (("adversarial", 0.0), ("with L1", 1000.0))
            for unit in ("tsru_p", "conv_gru")
        ),
        seeds=1,
        data=None,
        evaluations={"": {"samples": 100, "features": "moving-digits"}},  # trained on other data, but at hand
    ),
}


def grid(name: str) -> Grid:
    """The grid of that name.

    Raises:
        TrivdError: there is none.
    """
    if name not in GRIDS:
        raise TrivdError(f"There is no grid {name}; choose one of {', '.join(GRIDS)}.")
    return GRIDS[name]
