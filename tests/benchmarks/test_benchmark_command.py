"""The command line of `trivd benchmark`."""

import io
import json
from pathlib import Path

import pytest
import torch
import tyro
from rich.console import Console

from benchmarks.main import SUITES, Benchmark
from benchmarks.suite import Suite
from benchmarks.suites.warp import Warp
from trivd.runtime.errors import TrivdError


def run(*arguments: str) -> str:
    """What the command prints."""
    console = Console(file=io.StringIO(), width=200)
    assert tyro.cli(Benchmark, args=arguments).run(console) == 0
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Suite, Path | None, int]]:
    """Suites that are asked for, with their files and threads; none is run."""
    found: list[tuple[Suite, Path | None, int]] = []
    monkeypatch.setattr(
        "benchmarks.main.run_suite",
        lambda suite, device, path, console: found.append((suite, path, torch.get_num_threads())),
    )
    return found


def test_a_suite_is_measured_and_put_into_a_document(tmp_path: Path) -> None:
    path, document = tmp_path / "warp.json", tmp_path / "page.md"
    printed = run("warp", "--quick", "--turns", "1", "--json", str(path))
    assert f"Written: {path}" in printed
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == len(Warp.quick().cases())
    document.write_text("<!-- benchmark warp -->\n<!-- end of benchmark warp -->\n")
    assert f"Written: {document}" in run("tables", str(tmp_path), "--document", str(document))
    for row in rows:
        assert f"| {row['ratios']['ours / copy']:,.2f} |" in document.read_text()


@pytest.mark.parametrize("suite", SUITES)
def test_defaults_are_the_suites_own(suite: type[Suite], seen: list[tuple[Suite, Path | None, int]]) -> None:
    run(suite.name)
    run(suite.name, "--quick")
    assert [settings for settings, _, _ in seen] == [suite(), suite.quick()]  # type: ignore[call-arg]


def test_options_replace_defaults(seen: list[tuple[Suite, Path | None, int]]) -> None:
    before = torch.get_num_threads()
    run("step", "--channels", "12", "--batch", "3", "--turns", "9", "--threads", "2", "--no-memory")
    ((settings, path, threads),) = seen
    assert (settings.channels, settings.batch, settings.turns, settings.memory) == (12, 3, 9, False)  # type: ignore[attr-defined]
    assert (path, threads) == (None, 2)
    assert torch.get_num_threads() == before


def test_all_suites_write_a_file_each(tmp_path: Path, seen: list[tuple[Suite, Path | None, int]]) -> None:
    run("all", "--quick", "--json", str(tmp_path))
    assert [(settings.name, path) for settings, path, _ in seen] == [
        (suite.name, tmp_path / f"{suite.name}.json") for suite in SUITES
    ]


def test_a_list_without_values_is_refused() -> None:
    with pytest.raises(TrivdError, match="--tables names nothing; leave it out to measure all"):
        run("step", "--tables")


@pytest.mark.parametrize("option", ["turns", "threads"])
def test_numbers_below_one_are_refused(option: str) -> None:
    with pytest.raises(TrivdError, match=f"--{option} is 0; it must be at least 1"):
        run("warp", f"--{option}", "0")
