"""A run's folder: who may train there, and what is left of starts that failed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_checks import MakeConfig, assert_same_run, run_to

from trivd.commands.main import main
from trivd.config import override
from trivd.runtime.errors import TrivdError
from trivd.training import loop
from trivd.training.run import Run

OPEN = """
import sys, time
from pathlib import Path
from trivd.config import Config
from trivd.training.run import Run
import multiprocessing
with Run(Path(sys.argv[1])).opened(Config(), "moving-digits"):
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()  # as one that reads clips
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that trains in the folder "run"."""
    command = [sys.executable, "-c", OPEN, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def test_a_second_process_is_refused(tiny_config: MakeConfig, tmp_path: Path, other: "subprocess.Popen[str]") -> None:
    run = Run(tmp_path / "run")
    config, data = run.read()
    longer = override(config, {"training": {"steps": 9}}, "test")
    with pytest.raises(TrivdError, match="Another process is training in"), run.opened(longer, data):
        pass
    assert run.read()[0] == config
    other.kill()
    other.wait()
    with run.opened(longer, data):  # at once, though its reader of clips still lives
        assert run.read()[0] == longer


def test_a_start_without_space_can_be_repeated(tmp_path: Path, tiny_config: MakeConfig) -> None:
    """What is left of one: the lock, and half of the settings."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / ".run.json.123.tmp").write_text('{"con')
    assert run_to(folder, tiny_config())[0]
    assert not list(folder.rglob("*.tmp"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".thesis.doc.123.tmp").touch()
    with pytest.raises(TrivdError, match="is not empty and holds no run"):
        run_to(tmp_path / "other", tiny_config())


def test_what_a_killed_process_was_writing_is_removed(copied: Path, trained_run: Path, tiny_config: MakeConfig) -> None:
    leftovers = [copied / name for name in ("best/.model.safetensors.12.tmp", "samples/.step-00000004.png.12.tmp")]
    for path in leftovers:
        path.write_text("half")
    (copied / "checkpoints" / ".step-00000006.12.tmp").mkdir()
    shutil.rmtree(copied / "checkpoints" / "step-00000004")
    evaluating = copied / ".report.json.12.tmp"
    evaluating.write_text("of another process, which lives")
    assert run_to(copied, tiny_config())[0]
    assert_same_run(copied, trained_run, 4)
    assert list(copied.rglob("*.tmp")) == [evaluating]


@pytest.mark.parametrize("out", ["/proc/run", "/proc/self/run/more", "FILE", "FILE/run", "LINK"])
def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Before the data are looked at."""
    monkeypatch.setattr(loop, "open_splits", lambda *_: pytest.fail("it looked at the data"))
    (tmp_path / "FILE").touch()
    (tmp_path / "LINK").symlink_to(tmp_path / "nowhere")
    place = str(tmp_path / out) if out.isupper() or out.startswith("FILE") else out
    with pytest.raises(SystemExit) as ended:
        main(["train", "moving-digits", "--preset", "quickstart", "--out", place])
    assert ended.value.code == 2
    said = "".join(capsys.readouterr().err.split("\n"))
    assert f"{place} cannot be written" in said or f"{place} is not a folder" in said
    assert said.endswith("choose another --out.")


@pytest.mark.parametrize("name", ["checkpoints", "samples", "tensorboard", "last", "log.jsonl"])
def test_what_stands_in_the_way_of_a_runs_files_is_said_before_the_work(
    copied: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(loop, "open_splits", lambda *_: pytest.fail("it looked at the data"))
    path = copied / name
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(TrivdError, match=rf"{path} is (not a folder|a folder, not a file); choose another --out"):
        run_to(copied, tiny_config(training={"steps": 5}))
