"""An evaluation by several processes is that of one, also after a stop and on another number of processes."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trivd.config import Config
from trivd.training.loop import train
from trivd.training.run import Run

KEEP = """
import sys
from trivd.commands.main import main
from trivd.evaluation.partial import PartialResults
PartialResults.remove = lambda self: None  # as if it had been stopped just before the end
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., Config]) -> Path:
    """A trained run; torch draws the same noise at once and in parts if these have multiples of 16 numbers."""
    folder = tmp_path_factory.mktemp("evaluated by many") / "run"
    assert train(tiny_config(model={"latent_dim": 16}), "moving-digits", Run(folder), Console(file=io.StringIO()))
    return folder


def evaluated(launcher: list[str], run: Path, out: Path) -> tuple[dict[str, float], str]:
    """All figures of the report of `trivd evaluate` by where they stand in it, and what was said."""
    command = [sys.executable, *launcher, "evaluate", str(run), "--clips", "9", "--best-of-clips", "5"]
    command += ["--batch-size", "2", "--runs", "2", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert finished.returncode == 0, finished.stderr
    found: dict[str, float] = {}

    def walk(value: Any, place: str) -> None:
        if isinstance(value, float) and not place.endswith(
            "/std"
        ):  # of values that are compared; it magnifies rounding
            found[place] = value
        for name, inner in value.items() if isinstance(value, dict) else []:
            walk(inner, f"{place}/{name}")
        for number, inner in enumerate(value) if isinstance(value, list) else []:
            walk(inner, f"{place}/{number}")

    walk(json.loads(out.read_text()), "")
    assert len(found) > 50
    return found, finished.stdout


def torchrun(processes: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "trivd"]


@pytest.fixture(scope="module")
def kept(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The report of one process beside the parts of its evaluation, and what it says."""
    out = tmp_path_factory.mktemp("alone") / "report.json"
    return out, evaluated(["-c", KEEP], run, out)[0]


def test_processes_share_an_evaluation(run: Path, tmp_path: Path, kept: tuple[Path, dict[str, float]]) -> None:
    found, said = evaluated(torchrun(3), run, tmp_path / "shared.json")
    assert said.count("Written:") == 1
    assert found == pytest.approx(kept[1], rel=1e-3, abs=1e-4)
    assert not list(tmp_path.glob(".*.partial"))


def test_it_goes_on_on_another_number_of_processes(run: Path, kept: tuple[Path, dict[str, float]]) -> None:
    out, expected = kept
    out.unlink()
    (folder,) = out.parent.glob(".*.partial")
    batches = sorted(folder.iterdir())
    for path in batches[1::2]:
        path.unlink()
    for path in batches[::4]:
        path.write_bytes(path.read_bytes()[:40])  # as a full disk would leave it
    found, _ = evaluated(torchrun(2), run, out)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert not folder.exists()
