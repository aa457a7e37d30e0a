"""Means, deviations and verdicts against NumPy and SciPy; tables hold the numbers of the files."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from research.document import fill_documents
from research.grids import GRIDS, Cell, Grid
from research.results import (
    MOTION,
    STUDENT,
    mean_curves,
    orderings,
    pooled_deviation,
    read_results,
    rows,
)
from trivd.evaluation.outcome import Spread
from trivd.pictures.markdown import BEGIN, END
from trivd.runtime.errors import TrivdError

DISTANCE = "FVD (moving-digits)"
VALUES = st.lists(st.floats(0, 1e3), min_size=2, max_size=9)


def grid_of(**papers: float | None) -> Grid:
    return Grid("a test", "quickstart", tuple(Cell(label, {}, paper) for label, paper in papers.items()), seeds=3)


def evaluation(distance: float, error: float | None = None) -> dict[str, Any]:
    """Of one run, as its JSON file holds it."""
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


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_the_pooled_deviation_is_that_of_all_from_their_own_means(groups: list[list[float]]) -> None:
    residuals = np.concatenate([np.array(group) - np.mean(group) for group in groups])
    freedom = len(residuals) - len(groups)
    expected = math.sqrt(np.sum(residuals**2) / freedom)
    assert pooled_deviation([Spread.of(group) for group in groups]) == (pytest.approx(expected, abs=1e-9), freedom)


def test_quantiles_are_those_of_students_t() -> None:
    assert pytest.approx(stats.t.ppf(0.975, np.arange(1, len(STUDENT) + 1)), abs=5.1e-4) == STUDENT


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(VALUES, VALUES)
def test_a_verdict_is_that_of_students_test(good: list[float], bad: list[float]) -> None:
    chosen = grid_of(good=10.0, bad=20.0)
    found = [result("good", seed, value) for seed, value in enumerate(good)]
    found += [result("bad", seed, value) for seed, value in enumerate(bad)]
    (pair,) = orderings(rows(chosen, found), DISTANCE)
    assert (pair.first, pair.second, pair.paper) == ("good", "bad", 10.0)
    assert pair.difference == pytest.approx(np.mean(bad) - np.mean(good), abs=1e-9)
    assert pair.margin is not None
    low, high = stats.ttest_ind(bad, good).confidence_interval(0.95)
    assert pair.margin == pytest.approx((high - low) / 2, rel=1e-3, abs=1e-9)
    clear = abs(pair.difference) > pair.margin
    assert pair.verdict == (("holds" if pair.difference > 0 else "reversed") if clear else "not resolved")


def test_of_some_figures_more_is_better() -> None:
    found = [
        result(label, seed, 0.3 + seed / 100 + gain) for label, gain in (("a", 0.2), ("b", 0)) for seed in range(3)
    ]
    for values in found:
        for figure in values["evaluations"][""]["figures"]:
            figure["better"] = "higher"
    (pair,) = orderings(rows(grid_of(a=1.0, b=2.0), found), DISTANCE)
    assert (pair.difference, pair.verdict) == (pytest.approx(0.2), "holds")


def test_single_runs_resolve_nothing() -> None:
    table = rows(grid_of(good=1.0, bad=2.0), [result("good", 0, 1.0), result("bad", 0, 5.0)])
    assert [pair.verdict for pair in orderings(table, DISTANCE)] == ["not resolved"]


def test_pairs_are_those_the_paper_tells_apart_the_widest_first() -> None:
    chosen = grid_of(a=3.0, b=1.0, c=2.5, d=None)
    table = rows(chosen, [result(label, 0, 1.0) for label in "abcd"])
    assert [(pair.first, pair.second) for pair in orderings(table, DISTANCE)] == [("b", "a"), ("b", "c"), ("c", "a")]


def test_rows_hold_figures_motion_and_mean_curves() -> None:
    (row,) = rows(grid_of(a=None), [result("a", seed, value, value / 10) for seed, value in enumerate((1.0, 2.0, 6.0))])
    spread = row.figures[DISTANCE].model
    assert (spread.mean, spread.std) == (3.0, pytest.approx(np.std([1, 2, 6], ddof=1)))
    assert row.figures[MOTION].model.mean == pytest.approx(0.3)
    assert row.figures[MOTION].copy == 0.75
    assert row.figures[f"{MOTION}, unit at 8 alone"].model.mean == pytest.approx(0.6)
    assert mean_curves(row) == {"SSIM": {"one sample": [pytest.approx(3.0), pytest.approx(6.0)]}}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    (folder / "units").mkdir(parents=True)
    distances = {"conv_gru": (3.0, 3.25, 3.5), "tsru_p": (1.0, 1.25, 1.5)}
    for cell, values in distances.items():
        for seed, value in enumerate(values):
            file = folder / "units" / f"{cell}-seed{seed}.json"
            file.write_text(json.dumps(result(cell, seed, value, error=value / 4, steps=1234)))
    return folder


def test_the_document_gets_tables_orderings_and_plots(results: Path, tmp_path: Path) -> None:
    document = tmp_path / "docs" / "results.md"
    document.parent.mkdir()
    names = ("replication units", "replication stability")
    document.write_text("".join(f"{BEGIN.format(name)}\n{END.format(name)}\n" for name in names) + "after\n")
    (results / "units" / "tsru_p-seed0.png").touch()
    written = fill_documents(results, document)
    text = document.read_text()
    assert f"| tsru_p | 3 | 43.7 | 1.25 ± {np.std([1, 1.25, 1.5], ddof=1):.2f} |" in text
    assert "| copy the last frame |  |  | 4.50 | 0.75 |" in text
    assert "Of 1 orderings of the paper, by FVD (moving-digits): 1 holds, 0 reversed, 0 not resolved." in text
    assert f"| tsru_p better than conv_gru | 5.7 | +2.00 ± {2.776 * 0.25 * math.sqrt(2 / 3):.2f}: holds |" in text
    assert "6 trainings on moving-digits, 3.0 hours in all, each on 2 threads of Abacus 7" in text
    assert "Of 6 trainings, 0 were flagged" in text
    assert "tsru_p:\n\n![tsru_p](../results/units/tsru_p-seed0.png)" in text
    assert "![conv_gru]" not in text
    assert text.endswith("after\n")
    assert [path.name for path in written] == ["results.md", "figures.svg"]
    before = [path.read_bytes() for path in written]
    fill_documents(results, document)
    assert [path.read_bytes() for path in written] == before
    other = results / "units" / "tsru_p-seed0.json"
    values = json.loads(other.read_text())
    values["hardware"] |= {"cpu": "Abacus 8", "threads": 1}
    other.write_text(json.dumps(values))
    fill_documents(results, document)
    assert "each on 2 threads of Abacus 7 (5) or 1 thread of Abacus 8 (1), torch" in document.read_text()


def test_a_document_without_a_place_is_left_alone(results: Path, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("nothing\n")
    with pytest.raises(TrivdError, match="has no place for replication units"):
        fill_documents(results, document)
    assert document.read_text() == "nothing\n"


def test_damaged_results_are_named(results: Path) -> None:
    (results / "units" / "tsru_c-seed0.json").write_text('{"config": ')
    with pytest.raises(TrivdError, match=r"tsru_c-seed0\.json is not the result of a run"):
        read_results(results, "units", GRIDS["units"])
    old = result("tsru_c", 0, 1.0)
    del old["evaluations"][""]["protocol"]["seed"]
    with pytest.raises(TrivdError, match="tsru_c with seed 0 is not of this version"):
        rows(GRIDS["units"], [old])
