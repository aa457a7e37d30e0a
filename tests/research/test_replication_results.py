"""Means, deviations and verdicts against NumPy and SciPy; tables hold the numbers of the files."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replication_results import DISTANCE, evaluation, result
from scipy import stats

from research.comparison import Cell, Comparison, Published, Scoring
from research.outputs import fill_pages
from research.plots import picture
from research.records import collect, find_run, read_runs
from research.results import MOTION, STUDENT, mean_curves, orderings, pooled_deviation, rows
from research.small import SMALL
from trivd.evaluation.outcome import Spread
from trivd.pictures.markdown import BEGIN, END
from trivd.runtime.errors import TrivdError

ROOT = Path(__file__).parents[2]
PAGES, RESULTS = ROOT / "docs" / "results", ROOT / "benchmarks" / "results" / "replication"
UNITS = SMALL["table2"]
VALUES = st.lists(st.floats(0, 1e3), min_size=2, max_size=9)


def comparison_of(**papers: float | None) -> Comparison:
    cells = (
        Cell(
            label,
            "quickstart",
            "moving-digits",
            {"": Scoring()},
            paper={} if paper is None else {"FVD": Published(paper)},
        )
        for label, paper in papers.items()
    )
    return Comparison("a test", "test", "small", tuple(cells), seeds=3)


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
    chosen = comparison_of(good=10.0, bad=20.0)
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
    (pair,) = orderings(rows(comparison_of(a=1.0, b=2.0), found), DISTANCE)
    assert (pair.difference, pair.verdict) == (pytest.approx(0.2), "holds")


def test_single_runs_resolve_nothing() -> None:
    table = rows(comparison_of(good=1.0, bad=2.0), [result("good", 0, 1.0), result("bad", 0, 5.0)])
    assert [pair.verdict for pair in orderings(table, DISTANCE)] == ["not resolved"]


def test_pairs_are_those_the_paper_tells_apart_the_widest_first() -> None:
    chosen = comparison_of(a=3.0, b=1.0, c=2.5, d=None)
    table = rows(chosen, [result(label, 0, 1.0) for label in "abcd"])
    assert [(pair.first, pair.second) for pair in orderings(table, DISTANCE)] == [("b", "a"), ("b", "c"), ("c", "a")]


def test_rows_hold_figures_motion_and_mean_curves() -> None:
    (row,) = rows(
        comparison_of(a=None), [result("a", seed, value, value / 10) for seed, value in enumerate((1.0, 2.0, 6.0))]
    )
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


def place_for(*names: str) -> str:
    return "".join(f"{BEGIN.format(name)}\n{END.format(name)}\n" for name in names) + "after\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    document = tmp_path / "docs" / "results.md"
    document.parent.mkdir()
    document.write_text(place_for("replication units", "replication stability"))
    return document


def test_the_document_gets_tables_orderings_and_a_picture(results: Path, page: Path) -> None:
    written = fill_pages(results, page)
    text = page.read_text()
    assert f"| tsru_p | 3 | 43.7 | 1.25 ± {np.std([1, 1.25, 1.5], ddof=1):.2f} |" in text
    assert "| copy the last frame |  |  | 4.50 | 0.75 |" in text
    said = "By FVD (moving-digits), 1 of the paper's 1 orderings hold, 0 are reversed, and 0 are not resolved."
    assert said in " ".join(text.split())
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("|"))
    assert f"| tsru_p better than conv_gru | 5.7 | +2.00 ± {2.776 * 0.25 * math.sqrt(2 / 3):.2f}: holds |" in text
    assert "6 trainings on moving-digits, 3.0 hours in all, each on 2 threads of Abacus 7" in text
    assert "Of 6 trainings, 0 were flagged" in text
    assert f"![{UNITS.about}](../results/units.svg)" in text
    assert text.endswith("after\n")
    assert written == [page, results / "units.svg"]
    before = [path.read_bytes() for path in written]
    fill_pages(results, page)
    assert [path.read_bytes() for path in written] == before
    other = results / "units" / "tsru_p-seed0.json"
    values = json.loads(other.read_text())
    values["hardware"] |= {"cpu": "Abacus 8", "threads": 1}
    values["evaluations"][""]["absent"] = [{"name": "FVD", "why": "no weights; fetch some"}]
    other.write_text(json.dumps(values))
    fill_pages(results, page)
    text = " ".join(page.read_text().split())
    assert "each on 2 threads of Abacus 7 (5) or 1 thread of Abacus 8 (1), torch" in text
    assert "FVD not computed: no weights; fetch some (tsru_p)." in text


def test_each_page_of_a_folder_gets_its_own_tables(results: Path, page: Path) -> None:
    """Two pages hold what one page did; links are relative to each."""
    fill_pages(results, page)
    whole = page.read_text()
    folder = page.parent / "pages"
    units, stability = folder / "grids" / "units.md", folder / "stability.md"
    units.parent.mkdir(parents=True)
    units.write_text(place_for("replication units"))
    stability.write_text(place_for("replication stability"))
    (folder / "index.md").write_text("no tables\n")
    assert fill_pages(results, folder) == [units, stability, results / "units.svg"]
    assert "](../../../results/units.svg)" in units.read_text()
    parts = units.read_text().replace("../../../results", "../results"), stability.read_text()
    assert "".join(part.removesuffix("after\n") for part in parts) == whole.removesuffix("after\n")
    assert (folder / "index.md").read_text() == "no tables\n"


def test_collected_runs_give_the_same_bytes(results: Path, page: Path) -> None:
    """One file in place of all; a run that has a file of its own again counts before it."""
    (results / "units" / "pace.json").write_text(
        json.dumps({"cells": {unit: {"seconds": 0.5, "peak_bytes": 2**30} for unit in ("conv_gru", "tsru_p")}})
    )
    files = fill_pages(results, page)
    before = [path.read_bytes() for path in files]
    assert "| 500 | 1.00 |" in page.read_text()
    collected = collect(results, UNITS)
    assert collected == results / "units.json"
    text = collected.read_text()
    alone = json.loads((results / "units" / "tsru_p-seed1.json").read_text())
    for file in list((results / "units").iterdir()):
        file.unlink()
    fill_pages(results, page)
    assert [path.read_bytes() for path in files] == before
    assert find_run(results, "units", "tsru_p", 1) == (collected, alone)
    assert find_run(results, "units", "tsru_p", 3) is None
    collect(results, UNITS)
    assert collected.read_text() == text
    (results / "units" / "tsru_p-seed1.json").write_text(json.dumps(alone | {"steps": 77}))
    assert [run["steps"] for run in read_runs(results, UNITS) if run["seed"] == 1] == [1234, 77]
    assert collect(results, SMALL["head"]) is None


def test_a_picture_shows_cells_or_frames() -> None:
    """Many samples are shown by predicted frame: for several cells the best of ten, for one all that was counted."""
    chosen = comparison_of(a=None, b=None)
    found = [result(cell, 0, 2.0) for cell in ("a", "b")]
    assert [axis.get_title() for axis in picture(chosen, rows(chosen, found)).axes] == [DISTANCE]
    curved = replace(chosen, curves=True)
    series = {"copy the last frame": [1.0, 2.0], "one sample": [3.0, 4.0], "best of 10": [5.0, 6.0]}
    for values in found:
        values["evaluations"][""] = evaluation(2.0, samples=100) | {"curves": {"psnr": series, "ssim": series}}
    both, single = (picture(curved, rows(curved, some)) for some in (found, found[:1]))
    for figure, names in ((both, ["copy the last frame", "a, best of 10", "b, best of 10"]), (single, list(series))):
        assert [[line.get_label() for line in axis.lines] for axis in figure.axes] == [names, names]
    assert list(both.axes[0].lines[1].get_ydata()) == [5.0, 6.0]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("nothing\n",), r"page.* has no place for replication units"),
        ((place_for("replication units"), place_for("replication units")), r"stands in .*0\.md and .*1\.md"),
        ((place_for("replication units"),), r"has no place for replication stability"),
        ((), "has no Markdown page"),
    ],
)
def test_pages_without_one_place_for_each_comparison_are_left_alone(
    results: Path, tmp_path: Path, texts: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.md").write_text(text)
    with pytest.raises(TrivdError, match=message):
        fill_pages(results, folder)
    assert tuple(path.read_text() for path in sorted(folder.iterdir())) == texts
    assert not (results / "units.svg").exists()


def test_damaged_results_are_named(results: Path) -> None:
    (results / "units" / "tsru_c-seed0.json").write_text('{"config": ')
    with pytest.raises(TrivdError, match=r"tsru_c-seed0\.json is not the result of a run"):
        read_runs(results, UNITS)
    (results / "head.json").write_text('{"runs": [{}], "pace": null}')
    with pytest.raises(TrivdError, match=r"head\.json does not hold the runs of a comparison"):
        read_runs(results, SMALL["head"])
    old = result("tsru_c", 0, 1.0)
    del old["evaluations"][""]["protocol"]["seed"]
    with pytest.raises(TrivdError, match="tsru_c with seed 0 is not of this version"):
        rows(UNITS, [old])


@pytest.mark.parametrize("name", [*(one.records for one in SMALL.values()), "stability"])
def test_the_documentation_has_a_place_for_every_comparison(name: str) -> None:
    (page,) = (path for path in PAGES.rglob("*.md") if f"{BEGIN.format(f'replication {name}')}\n" in path.read_text())
    assert page.read_text().count(END.format(f"replication {name}")) == 1


def test_the_documentation_is_what_the_kept_results_give(tmp_path: Path) -> None:
    """Byte for byte, for the tables; pictures depend on fonts and on matplotlib's version."""
    shutil.copytree(PAGES, tmp_path / "docs" / "results")
    shutil.copytree(RESULTS, tmp_path / RESULTS.relative_to(ROOT))
    fill_pages(tmp_path / RESULTS.relative_to(ROOT), tmp_path / "docs" / "results")
    for path in PAGES.rglob("*.md"):
        assert (tmp_path / "docs" / "results" / path.relative_to(PAGES)).read_text() == path.read_text()
