"""Comparisons of settings beside the paper's: what each does to a training of minutes, with two seeds."""

from collections.abc import Mapping
from typing import Any

from research.comparison import Cell, Comparison, DataSet, Scoring

Settings = dict[str, dict[str, Any]]  # section -> setting -> value

DIGITS: dict[str, Any] = {"clips": 1_024, "best_of_clips": 64}
IDENTITY: Settings = {"model": {"warp_start_weight": 0.98, "gate_bias": 2.0, "warp_padding": "replicate"}}
LECAM: Settings = {"training": {"lecam": 0.3}}
R1: Settings = {"training": {"r1": 1.0}}
MOMENTUM: Settings = {"training": {"beta1": 0.5}}
CURRICULUM: Settings = {"training": {"curriculum": 0.5}}

# The preset `comparison` for half of its steps.
AT_32: Settings = {"training": {"steps": 500, "evaluate_every": 250}}
# Its recipe at 64 pixels.
AT_64: Settings = {
    "model": {"warp_size": (5,)},
    "training": {
        "steps": 400,
        "discriminator_updates": 1,
        "generator_lr": 1.5e-3,
        "discriminator_lr": 2e-4,
        "reconstruction": 100.0,
        "evaluate_every": 200,
        "sample_every": 400,
        "log_every": 20,
    },
}
# The same from one given frame. Futures differ there, so L1 pulls a single sample to their median.
AT_ROBOT: Settings = {
    "model": {"warp_size": (5,)},
    "training": AT_64["training"] | {"steps": 300},
    "evaluation": {"features": "none"},  # while it trains
}


def _merged(*changes: Settings) -> Settings:
    """All changes together; of two to one setting, the later."""
    merged: Settings = {}
    for change in changes:
        for section, settings in change.items():
            merged[section] = merged.get(section, {}) | settings
    return merged


def _verdicts(
    about: str,
    records: str,
    preset: str,
    base: Settings,
    hypotheses: Mapping[str, Settings],
    *,
    data: DataSet = "moving-digits",
    scoring: Mapping[str, Any] = DIGITS,
) -> Comparison:
    """A base and, for each hypothesis, the same with its settings."""
    cells = {"base": base} | {label: _merged(base, changes) for label, changes in hypotheses.items()}
    scorings = {"": Scoring(settings=scoring)}
    return Comparison(
        about,
        records,
        "small",
        tuple(Cell(label, preset, data, scorings, changes) for label, changes in cells.items()),
        seeds=2,
        model="last",
    )


VERDICTS: dict[str, Comparison] = {
    "verdicts-32": _verdicts(
        "Settings beside the paper's at 32 pixels: preset comparison, 4,000 clips",
        "verdicts-32",
        "comparison",
        AT_32,
        {
            "generator 8, discriminator 12": {"model": {"generator_channels": 8, "discriminator_channels": 12}},
            "batch 32, a quarter of the steps": {"training": {"batch_size": 32, "steps": 125}},
            "identity start, gate 2, replicate": IDENTITY,
            "LeCam 0.3": LECAM,
            "R1 1": R1,
            "beta1 0.5": MOMENTUM,
        },
    ),
    "verdicts-64": _verdicts(
        "Settings beside the paper's at 64 pixels: 1,600 clips",
        "verdicts-64",
        "small",
        AT_64,
        {
            "generator 12, discriminator 16": {"model": {"generator_channels": 12, "discriminator_channels": 16}},
            "discriminator and encoder 16": {"model": {"discriminator_channels": 16}},
            "batch 16, a quarter of the steps": {"training": {"batch_size": 16, "steps": 100}},
            "identity start, gate 2, replicate": IDENTITY,
            "the same, k 3, 5, 9": _merged(IDENTITY, {"model": {"warp_size": (3, 5, 9)}}),
            "LeCam 0.3": LECAM,
            "R1 1": R1,
            "beta1 0.5": MOMENTUM,
            "curriculum over half the run": CURRICULUM,
        },
    ),
    "verdicts-robot": _verdicts(
        "Settings beside the paper's on robot-pushing, 1 -> 15 frames: 1,200 clips",
        "verdicts-robot",
        "robot-pushing",
        AT_ROBOT,
        {
            "L1 to the mean of 4 samples": {"training": {"reconstruction_samples": 4}},
            "2 samples, diversity 10": {"training": {"reconstruction_samples": 2, "diversity": 10.0}},
            "identity start, gate 2, replicate": IDENTITY,
            "curriculum over half the run": CURRICULUM,
        },
        data="videos",
        scoring={"clips": 256, "best_of_clips": 32, "samples": 100, "features": "i3d"},
    ),
    "verdicts-weizmann": _verdicts(
        "Augmentation of real videos of people: preset weizmann, 1,600 clips",
        "verdicts-weizmann",
        "weizmann",
        {
            "training": {"steps": 400, "reconstruction": 100.0, "evaluate_every": 200},
            "evaluation": {"features": "none"},  # while it trains
        },
        {"augmentation": {"training": {"augment": ("translation", "colour", "cutout")}}},
        data="videos",
        scoring={"samples": 10, "features": "i3d"},
    ),
}
