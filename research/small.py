"""Comparisons at a size that a small machine can train, with several seeds, their scoring and the paper's figures."""

from collections.abc import Mapping
from typing import Any

from research.comparison import Cell, Comparison, DataSet, Published, Scoring
from research.published import TABLE1_FVD, TABLE2_FVD
from research.verdicts import VERDICTS
from trivd.presets import HEADS

Settings = dict[str, dict[str, Any]]  # section -> setting -> value

FINAL: dict[str, Any] = {"clips": 2_048, "best_of_clips": 128}  # more clips than during training


def _cells(
    changes: Mapping[str, Settings],
    paper: Mapping[Any, float] | None = None,
    *,
    preset: str = "comparison",
    data: DataSet = "moving-digits",
    scorings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Cell, ...]:
    """Cells that differ by changes to one preset.

    Args:
        changes: by the label of each cell.
        paper: the paper's FVD by label.
        preset: that they start from.
        data: data set of all.
        scorings: settings of each evaluation by its name.
    """
    every = {name: Scoring(settings=settings) for name, settings in (scorings or {"": FINAL}).items()}
    return tuple(
        Cell(
            label,
            preset,
            data,
            every,
            own,
            {} if paper is None else {"FVD": Published(paper[label])},
        )
        for label, own in changes.items()
    )


def _model(unit: str, decomposition: str, **discriminator: str) -> Settings:
    return {"model": {"unit": unit}, "discriminator": {"decomposition": decomposition, **discriminator}}


FASTER: Settings = {"discriminator": {"decomposition": "faster"}}

SMALL: dict[str, Comparison] = {
    "table2": Comparison(
        "Recurrent units, equal steps, decomposition faster (Table 2)",
        "units",
        "small",
        _cells({unit: _model(unit, "faster") for unit in TABLE2_FVD}, TABLE2_FVD),
        seeds=3,
        model="last",
    ),
    "table1": Comparison(
        "Discriminator decompositions, equal training time, conv_gru (Table 1)",
        "decompositions",
        "small",
        _cells({name: _model("conv_gru", name) for name in TABLE1_FVD}, TABLE1_FVD),
        seeds=2,
        seconds=450,
        model="last",
    ),
    "head": Comparison(
        "Answers of the discriminators, equal steps, conv_gru and dvd_gan_fp (E.1)",
        "head",
        "small",
        _cells({head: _model("conv_gru", "dvd_gan_fp", head=head) for head in HEADS}, HEADS),
        seeds=3,
        model="last",
    ),
    "classes": Comparison(
        "Conditioning on the class of the nearest digit, against the dummy class (4.1)",
        "classes",
        "small",
        _cells({"dummy class": FASTER, "ten classes": FASTER | {"model": {"classes": 10}}}),
        seeds=3,
        model="last",
    ),
    "figure5": Comparison(
        "Truncation of z, and the best of l samples (D.1, Figure 5)",
        "truncation",
        "small",
        _cells(
            {"tsru_p": _model("tsru_p", "faster")},
            scorings={
                "none": FINAL | {"samples": 100, "truncation": None},
                "0.8": FINAL | {"samples": 100, "truncation": 0.8},
                "zero": FINAL | {"samples": 2, "truncation": 0.0},
            },
        ),
        seeds=3,
        model="last",
        curves=True,
    ),
    "motion": Comparison(
        "Motion fields after twice the steps with ten times the L1, which shows a unit where content went",
        "motion",
        "small",
        _cells(
            {
                unit: _model(unit, "faster") | {"training": {"steps": 2_000, "reconstruction": 1000.0}}
                for unit in ("tsru_p", "tsru_s", "ptsru_s", "k_traj_gru")
            }
        ),
        model="last",
    ),
    "recipes": Comparison(
        "Rates and weights beside the recipe's, tsru_p: what makes a training collapse",
        "recipes",
        "small",
        _cells(
            {
                label: FASTER | {"training": changes}
                for label, changes in {
                    "the recipe": {},
                    "no L1": {"reconstruction": 0.0},
                    "no orthogonality": {"orthogonality": 0.0},
                    "discriminators at 2e-3": {"discriminator_lr": 2e-3},
                    "generator at 1.5e-2": {"generator_lr": 1.5e-2},
                    "rates of the paper, no L1": {
                        "generator_lr": 1e-4,
                        "discriminator_lr": 5e-4,
                        "reconstruction": 0.0,
                    },
                }.items()
            }
        ),
        seeds=2,
        model="last",
    ),
    "weizmann": Comparison(
        "Real videos, with adversarial losses alone and with L1 to the mean of the samples",
        "weizmann",
        "small",
        _cells(
            {
                f"{unit}, {name}": {"model": {"unit": unit}, "training": {"reconstruction": weight}}
                for name, weight in (("adversarial", 0.0), ("with L1", 1000.0))
                for unit in ("tsru_p", "conv_gru")
            },
            preset="weizmann",
            data="videos",
            scorings={"": {"samples": 100, "features": "moving-digits"}},  # trained on other data, but at hand
        ),
        model="last",
        curves=True,
    ),
    **VERDICTS,
}
