"""benchmarks/gpu.sh on a CPU: a part that runs, parts that fail or have no time, and packages that are missing."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import bare
from benchmarks.bare import StandIns, missing

MARK = re.compile(r"\bpytest\.mark\.cuda\b|^from triton_checks import .*(COMPILED|DEVICES)", re.MULTILINE)
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"


def run_script(out: Path, **environment: str) -> tuple[int, str]:
    """Its exit status, and what it prints."""
    values = os.environ | {"DEVICE": "cpu", "QUICK": "1", "OUT": str(out), "PYTHON": sys.executable} | environment
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, env=values, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_part_leaves_its_rows_and_a_line(tmp_path: Path) -> None:
    status, printed = run_script(tmp_path, PARTS="warp")
    assert status == 0
    assert printed.splitlines()[-1].startswith("warp: done, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "warp.json"]
    values = json.loads((tmp_path / "warp.json").read_text())
    assert len(values["rows"]) == 8
    assert values["hardware"]["device"] == "cpu"
    log = (tmp_path / "log.txt").read_text()
    assert "benchmarks.bare trivd benchmark warp --device cpu" in log
    assert log.endswith(printed[printed.index("\n== summary") :])


def test_all_parts_have_their_turn_whatever_happens_to_one(tmp_path: Path) -> None:
    (tmp_path / "warp.json").write_text("of another time")
    status, printed = run_script(tmp_path, PYTHON="/bin/false")
    assert status == 0
    summary = printed[printed.index("== summary") :].splitlines()[1:]
    names = [line.split(":")[0] for line in summary]
    assert names[:3] == ["step-8", "step-64", "graphs"]
    assert len(names) == 10
    skipped = ["tests: skipped, pytest, hypothesis cannot be imported", "quickstart: skipped, PIL cannot be imported"]
    assert [line for line in summary if "failed (1)" not in line] == skipped
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_the_script_runs_all_tests_that_need_a_gpu() -> None:
    root = Path(__file__).parents[2]
    named = [root / name for name in re.findall(r" (tests/[\w/.]+)", SCRIPT.read_text())]
    marked = {path for path in (root / "tests").rglob("test_*.py") if MARK.search(path.read_text())}
    assert marked == {path for name in named for path in (name.rglob("test_*.py") if name.is_dir() else [name])}


def test_the_whole_has_a_limit(tmp_path: Path) -> None:
    _, printed = run_script(tmp_path, LIMIT="3", PARTS="warp units")
    assert printed.splitlines()[-2:] == ["units: skipped, no time is left", "warp: skipped, no time is left"]


def test_wheels_are_on_the_path_without_pip(tmp_path: Path) -> None:
    """A wheel is a zip file of packages."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-c", str(folder / "numpy-9-py3-none-any.whl"), "numpy.py"],
        cwd=_with_file(tmp_path, "numpy.py", "raise ImportError('that of the wheel')"),
        check=True,
    )
    _, printed = run_script(tmp_path / "out", PARTS="warp", WHEELS=str(folder))
    assert "skipped: numpy, safetensors cannot be imported" in printed or "skipped: numpy cannot be imported" in printed


def _with_file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


@pytest.fixture
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "meta_path", [StandIns(("absent_videos",)), *sys.meta_path])
    yield
    for name in [name for name in sys.modules if name.startswith("absent_videos")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_stand_ins")
def test_what_is_missing_can_be_imported_with_all_its_parts() -> None:
    codec = importlib.import_module("absent_videos.codec.context")
    from absent_videos import Frame  # type: ignore[import-not-found]

    assert codec.__name__ == "absent_videos.codec.context"
    assert Frame | None  # as in annotations
    assert missing(["absent_videos", "absent_pages", "json"]) == ["absent_pages"]


def test_processes_of_a_measurement_have_the_stand_ins_too(tmp_path: Path) -> None:
    _with_file(tmp_path, "av.py", "raise ImportError")
    _with_file(tmp_path, "reads.py", "import av\ndef codec(): return str(av.codec)")
    lines = (
        "import multiprocessing, reads, sys",
        "from concurrent.futures import ProcessPoolExecutor",
        "with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:",
        "    print(pool.submit(reads.codec).result(), *sys.argv)",
    )
    _with_file(tmp_path, "starts.py", "\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bare", "starts", "--option"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{SCRIPT.parents[1]}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    without, printed = done.stdout.splitlines()
    assert without == "without av, which no measurement calls"
    assert printed.startswith("<MagicMock name='av.codec'")
    assert printed.endswith(f" {tmp_path / 'starts.py'} --option")


def test_needed_packages_have_no_stand_in() -> None:
    assert not set(bare.NEEDED) & set(bare.REPLACED)
