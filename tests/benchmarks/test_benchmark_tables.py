"""Tables and plots from JSON files: the same bytes from the same files, with the numbers that the files hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.main import SUITES
from benchmarks.suites.units import Units
from benchmarks.suites.warp import Warp
from benchmarks.tables import fill_tables, plot, records, suite_table
from trivd.pictures.markdown import BEGIN, END
from trivd.runtime.errors import TrivdError

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def record(name: str, *rows: dict[str, Any]) -> dict[str, Any]:
    """A suite's file as it stands on the disk."""
    return {
        "suite": name,
        "date": "2026-11-22T10:00:00+00:00",
        "command": "trivd benchmark",
        "versions": {"torch": "2.13.0"},
        "hardware": {"cpu": "Abacus 7", "cores": 4, "threads": 2, "device": "cpu"},
        "settings": {"turns": 5},
        "rows": list(rows),
    }


def warp_row(shape: str, milliseconds: float) -> dict[str, Any]:
    return {
        "case": {"shape": shape, "precision": "float32", "pass": "forward"},
        "seconds": {"ours": milliseconds / 1e3},
        "bytes_per_second": 12.34e9,
        "ratios": {"ours / copy": 4.5, "unfold / ours": 6.789, "slices / ours": 1234.5},
    }


def unit_row(unit: str, ratio: float) -> dict[str, Any]:
    return {
        "case": {"unit": unit, "shape": "384@8", "pass": "forward"},
        "precision": "bfloat16",
        "ratios": {"ours / conv_gru": ratio},
        "missing": {"ours / DGMR": "not installed"},
    }


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with three suites' files and one of another kind, and a document with places for two of them."""
    results = tmp_path / "results"
    results.mkdir()
    for name, values in {
        "a-warp": record("warp", warp_row("384@8", 1.25)),
        "b-warp": record("warp", warp_row("192@32", 77.0), warp_row("32@32", 0.5)),
        "units": record("units", unit_row("conv_gru", 1.0), unit_row("tsru_p", 1.75)),
        "other": {"ratio": 3},
    }.items():
        (results / f"{name}.json").write_text(json.dumps(values))
    document = tmp_path / "docs" / "page.md"
    document.parent.mkdir()
    markers = ("benchmark warp", "benchmark units")
    places = [f"## {name}\n\n{BEGIN.format(name)}\nformer table\n{END.format(name)}\n" for name in markers]
    document.write_text("# Title\n\n" + "\n".join(places) + "\nafter\n")
    return results, document


def test_a_table_holds_the_numbers_of_the_file() -> None:
    assert suite_table(Warp, record("warp", warp_row("384@8", 1.25))) == (
        "Abacus 7, 2 of 4 threads, torch 2.13.0, medians of 5 turns, 2026-11-22.\n\n"
        "| features | type | pass | ours [ms] | GB/s | ours / copy | unfold / ours | slices / ours |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| 384@8 | float32 | forward | 1.250 | 12.3 | 4.50 | 6.79 | 1,234.50 |"
    )


def test_a_graphics_card_is_named() -> None:
    values = record("warp")
    values["hardware"]["device"] = "Loom 3"
    assert suite_table(Warp, values).startswith("Loom 3, Abacus 7, 2 of 4 threads")


def test_documents_are_filled_between_their_markers_alone(place: tuple[Path, Path]) -> None:
    results, document = place
    written = fill_tables(results, document, (Warp, Units))
    assert written == [document, results / "units.svg"]
    text = document.read_text()
    assert text.startswith("# Title\n\n## benchmark warp\n\n<!-- benchmark warp -->\n\nAbacus 7")
    assert text.endswith("\nafter\n")
    assert "former table" not in text
    assert text.index("| 384@8 |") < text.index("| 192@32 |") < text.index("| 32@32 |")  # files by name
    assert "| tsru_p | 384@8 | forward | bfloat16 | 1.75 | not installed |" in text  # no columns without a figure
    assert "](../results/units.svg)" in text


def test_the_same_files_give_the_same_bytes(place: tuple[Path, Path]) -> None:
    results, document = place
    fill_tables(results, document, (Warp, Units))
    first = document.read_bytes(), (results / "units.svg").read_bytes()
    fill_tables(results, document, (Warp, Units))
    assert (document.read_bytes(), (results / "units.svg").read_bytes()) == first


def test_bars_are_as_long_as_their_numbers(place: tuple[Path, Path]) -> None:
    figure = plot(Units, records(place[0])[place[0] / "units.json"])
    assert figure is not None
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [1.75]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["tsru_p"]
    assert plot(Warp, record("warp", warp_row("384@8", 1.25))) is None


def test_a_document_without_a_place_is_left_alone(place: tuple[Path, Path]) -> None:
    results, document = place
    text = document.read_text().replace(END.format("benchmark units"), "")
    document.write_text(text)
    with pytest.raises(TrivdError, match="no place for benchmark units; add the lines <!-- benchmark units -->"):
        fill_tables(results, document, (Warp, Units))
    assert document.read_text() == text


def test_folders_without_records_and_damaged_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match="has no file of `trivd benchmark`"):
        records(tmp_path)
    (tmp_path / "cut.json").write_text('{"suite": ')
    with pytest.raises(TrivdError, match=r"cut\.json is not a JSON file"):
        records(tmp_path)


@pytest.mark.parametrize("name", [suite.name for suite in SUITES])
def test_the_documentation_has_a_place_for_every_suite(name: str) -> None:
    text = DOCUMENT.read_text()
    marker = f"benchmark {name}"
    assert text.count(f"{BEGIN.format(marker)}\n") == text.count(END.format(marker)) == 1
    assert f"trivd benchmark {name}" in text
