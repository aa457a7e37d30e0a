"""Results of runs of comparisons, as their JSON files hold them."""

from typing import Any

import numpy as np

DISTANCE = "FVD (moving-digits)"


def evaluation(distance: float, error: float | None = None, samples: int = 2) -> dict[str, Any]:
    """The evaluation of one run, as its JSON file holds it."""
    figure = {
        "name": DISTANCE,
        "better": "lower",
        "digits": 2,
        "model": {"mean": distance, "std": None, "runs": [distance]},
        "copy": 4.5,
        "truth": 0.25,
    }
    protocol = dict.fromkeys(
        ("clips", "best_of_clips", "resolution", "stride", "conditioning_frames", "predicted_frames", "samples"), 2
    ) | {"compared_frames": 4, "runs": 1, "truncation": None, "seed": 0, "inception_splits": 1}
    protocol["samples"] = samples
    protocol |= dict.fromkeys(("data", "split", "standing_statistics", "features", "subject"), "x")
    motion = None
    if error is not None:
        motion = {"model": error, "zero_motion": 0.75, "clips": 4, "levels": {"8": 2 * error}}
    curves = {"ssim": {"one sample": [distance, 2 * distance]}}
    return {"protocol": protocol, "figures": [figure], "curves": curves, "motion": motion, "warnings": []}


def result(cell: str, seed: int, distance: float, error: float | None = None, steps: int = 10) -> dict[str, Any]:
    return {
        "grid": "units",
        "cell": cell,
        "seed": seed,
        "data": "moving-digits",
        "steps": steps,
        "seconds": 1800.0,
        "weights": f"{cell}{seed}",
        "date": "2026-11-23T00:00:00+00:00",
        "versions": {"torch": "2.13.0"},
        "hardware": {"cpu": "Abacus 7", "threads": 2, "device": "cpu"},
        "config": {},
        "evaluations": {"": evaluation(distance, error)},
        "scores": [{"step": step, "score/train/distance": value} for step, value in ((0, 9.0), (9, distance))],
        "losses": [],
    }


def paper_result(cell: str, distance: float, runs: list[float]) -> dict[str, Any]:
    """A run at the paper's scale, whose evaluation has the runs given."""
    values = result(cell, 0, distance) | {"processes": 8, "pace": {"seconds": 0.5, "peak_bytes": 3 * 2**30}}
    values["hardware"] |= {"device": "Abacus 9"}
    figures = values["evaluations"][""]["figures"]
    spread = {"mean": distance, "std": float(np.std(runs, ddof=1)) if len(runs) > 1 else None, "runs": runs}
    figures[0] |= {"name": "FVD", "model": spread}
    figures.append(figures[0] | {"name": "IS", "better": "higher", "model": spread | {"mean": 11.25}})
    values["evaluations"][""]["protocol"] |= {"runs": len(runs)}
    return values
