"""The JSON file of a suite: saved row by row, resumed, and never mixed with rows of something else."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmarks.record import read_record, run_suite
from benchmarks.suite import Case, Column, Suite
from trivd.runtime.errors import TrivdError

CPU = torch.device("cpu")
MEASURED: list[int] = []  # the numbers that the stand-in was asked for


@dataclass(frozen=True)
class StandIn(Suite):
    """Squares numbers, and breaks down before one of them."""

    name = "stand-in"
    title = "Squares"
    columns = (Column("number", ("case", "number")), Column("square [m]", ("square",), 1, 1e-3))

    numbers: tuple[int, ...] = (1, 2, 3000)
    turns: int = 1

    @classmethod
    def quick(cls) -> "StandIn":
        return cls()

    def cases(self) -> Sequence[Case]:
        return [{"number": number} for number in self.numbers]

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        number = int(case["number"])
        if number == 3000 and Path("breaks").exists():
            raise KeyboardInterrupt
        MEASURED.append(number)
        return {"square": float(number**2)}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    MEASURED.clear()


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_a_stopped_suite_goes_on_with_the_rows_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "breaks").touch()
    path = tmp_path / "new" / "suite.json"
    with pytest.raises(KeyboardInterrupt):
        run_suite(StandIn(), CPU, path, quiet())
    assert [row["case"]["number"] for row in read_record(path)["rows"]] == [1, 2]
    (tmp_path / "breaks").unlink()
    before = path.read_text()
    console = quiet()
    record = run_suite(StandIn(), CPU, path, console)
    assert MEASURED == [1, 2, 3000]
    assert [row["square"] for row in record.rows] == [1, 4, 9e6]
    assert json.loads(path.read_text())["rows"][:2] == json.loads(before)["rows"]
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "stand-in 2/3: number 2 (already measured)" in printed
    assert "9,000.0" in printed  # of 9e6, in thousands
    run_suite(StandIn(), CPU, path, quiet())
    assert MEASURED == [1, 2, 3000]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda values: values["settings"].update(numbers=[1, 2]), "settings"),
        (lambda values: values["hardware"].update(threads=64), "hardware"),
        (lambda values: values["versions"].update(torch="1.0"), "versions"),
        (lambda values: values.update(suite="warp"), "suite"),
    ],
)
def test_rows_of_something_else_are_not_mixed_in(tmp_path: Path, change: Any, named: str) -> None:
    path = tmp_path / "suite.json"
    run_suite(replace(StandIn(), numbers=(1,)), CPU, path, quiet())
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(TrivdError, match=f"other {named}; name another file for --json"):
        run_suite(replace(StandIn(), numbers=(1,)), CPU, path, quiet())
    assert json.loads(path.read_text()) == values


@pytest.mark.parametrize("text", ["{", "[]", '{"suite": "warp"}'])
def test_files_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(text)
    with pytest.raises(TrivdError, match=str(path)):
        run_suite(StandIn(), CPU, path, quiet())
    assert path.read_text() == text


def test_cells_show_values_reasons_or_nothing() -> None:
    row = {"case": {"n": 8}, "seconds": {"ours": 0.01234}, "bytes": 3 * 2**30, "missing": {"DGMR": "not installed"}}
    cells = {
        Column("", ("case", "n")): "8",
        Column("", ("seconds", "ours"), 1, 1e3): "12.3",
        Column("", ("bytes",), 2, 2.0**-30): "3.00",
        Column("", ("ratios", "DGMR")): "not installed",
        Column("", ("ratios", "other")): "",
    }
    assert {column: column.cell(row) for column in cells} == cells
