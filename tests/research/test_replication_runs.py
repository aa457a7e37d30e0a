"""Runs of a tiny comparison: done once, resumed after a stop, in this process and in others."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from run_checks import Command
from safetensors.torch import load_file

from research import jobs
from research.comparison import Cell, Comparison, DataSet, Scoring
from research.pace import Pace, paces, steps_of
from research.records import collect, read_run
from research.runs import Task, run_task
from research.small import SMALL
from trivd.commands.main import main
from trivd.config import Config, to_dict
from trivd.data.clips import MOVING_DIGITS
from trivd.presets import PRESETS, Preset
from trivd.runtime.errors import TrivdError
from trivd.training.run import Run

NAME = "motion"  # of the comparison whose place it takes
RECORDS = "tiny"
PATHS: dict[DataSet, str] = {"moving-digits": MOVING_DIGITS}
ROOT = Path(__file__).parents[2]  # of the repository, in which research/ lies
# `trivd` that knows the comparison of this test, for other processes.
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, ROOT)
import torch
from trivd.commands.main import main
from trivd.config import Config, from_dict
from trivd.presets import PRESETS, Preset
from research.comparison import Cell, Comparison, Scoring
from research.small import SMALL

torch.set_num_threads(1)
PRESETS["tiny"] = Preset("a test", from_dict(Config, json.loads(Path(__file__).with_name("preset.json").read_text())))
scorings = {"": Scoring(), "zero": Scoring(settings={"truncation": 0.0})}
cells = tuple(
    Cell(unit, "tiny", "moving-digits", scorings, {"model": {"unit": unit}}) for unit in ("conv_gru", "tsru_p")
)
SMALL["motion"] = Comparison("a test", "tiny", "small", cells, model="last")
main(sys.argv[1:])
"""


@pytest.fixture
def tiny(tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """A comparison of two units in runs of four steps."""
    monkeypatch.setitem(PRESETS, RECORDS, Preset("a test", tiny_config()))
    scorings = {"": Scoring(), "zero": Scoring(settings={"truncation": 0.0})}
    cells = tuple(
        Cell(unit, RECORDS, MOVING_DIGITS, scorings, {"model": {"unit": unit}}) for unit in ("conv_gru", "tsru_p")
    )
    comparison = Comparison("a test", RECORDS, "small", cells, model="last")
    monkeypatch.setitem(SMALL, NAME, comparison)
    return comparison


def task_of(comparison: Comparison, cell: int = 1, seed: int = 0) -> Task:
    return Task(comparison, comparison.cells[cell], seed, None, PATHS, {})


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def test_a_run_is_trained_scored_and_kept_with_its_protocol(tiny: Comparison, tmp_path: Path) -> None:
    task = task_of(tiny)
    assert run_task(task, tmp_path / "runs", tmp_path / "results", quiet())
    values = read_run(task.result(tmp_path / "results"))
    assert values["config"] == to_dict(task.config)
    assert (values["cell"], values["seed"], values["steps"], values["data"]) == ("tsru_p", 0, 4, MOVING_DIGITS)
    assert values["seconds"] > 0
    with Image.open(task.picture(tmp_path / "results")) as picture:
        assert picture.height > 5 * 2 * 32  # truth, two samples, motion and true motion at twice their size
    assert set(values["evaluations"]) == {"", "zero"}
    assert values["evaluations"]["zero"]["protocol"]["truncation"] == 0.0
    assert values["evaluations"][""]["motion"]["model"] > 0
    assert [row["step"] for row in values["losses"]] == [1, 2, 3, 4]
    assert [row["step"] for row in values["scores"]] == [0, 4]
    assert all("score/train/spread" in row for row in values["scores"])
    assert {"hardware", "versions", "date", "command"} <= values.keys()
    trained = (task.run(tmp_path / "runs").last / "model.safetensors").stat().st_mtime_ns
    kept = task.result(tmp_path / "results").read_bytes()
    assert run_task(task, tmp_path / "runs", tmp_path / "results", quiet())  # nothing to do
    task.result(tmp_path / "results").unlink()
    assert run_task(task, tmp_path / "runs", tmp_path / "results", quiet())  # neither trained nor scored again
    assert (task.run(tmp_path / "runs").last / "model.safetensors").stat().st_mtime_ns == trained
    again = json.loads(task.result(tmp_path / "results").read_text())
    assert again["evaluations"] == json.loads(kept)["evaluations"]
    collect(tmp_path / "results", tiny)
    task.result(tmp_path / "results").unlink()
    assert task.is_done(tmp_path / "results")  # the collection holds it


def test_a_run_that_its_minutes_end_tells_how_many_steps_it_made(tiny: Comparison, tmp_path: Path) -> None:
    task = replace(task_of(tiny), settings={"training": {"minutes": 1e-6}})
    assert run_task(task, tmp_path / "runs", tmp_path / "results", quiet())
    values = read_run(task.result(tmp_path / "results"))
    assert values["steps"] == values["losses"][-1]["step"] < task.config.training.steps


def test_a_result_of_other_settings_is_never_replaced(tiny: Comparison, tmp_path: Path) -> None:
    task = task_of(tiny)
    file = task.result(tmp_path)
    file.parent.mkdir()
    other = {"config": to_dict(task_of(tiny, seed=1).config), "data": MOVING_DIGITS}
    file.write_text(json.dumps(other | dict.fromkeys(("evaluations", "scores", "losses"))))
    before = file.read_bytes()
    with pytest.raises(TrivdError, match="is of other settings; choose another --results"):
        run_task(task, tmp_path / "runs", tmp_path, quiet())
    assert file.read_bytes() == before
    assert not (tmp_path / "runs").exists()


def write_pace(results: Path) -> None:
    """Measuring it takes a process for each cell."""
    (results / RECORDS).mkdir(parents=True)
    cells = {unit: {"seconds": 1.0, "peak_bytes": None} for unit in ("conv_gru", "tsru_p")}
    (results / RECORDS / "pace.json").write_text(json.dumps({"cells": cells}))


def write_script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = folder / "trivd_with_tiny.py"
    script.write_text(f"ROOT = {str(ROOT)!r}\n{SCRIPT}")
    (folder / "preset.json").write_text(json.dumps(to_dict(PRESETS[RECORDS].config)))
    monkeypatch.setattr(jobs, "TRIVD", (sys.executable, str(script)))
    return script


def test_several_at_a_time_and_one_after_the_other_are_the_same(
    tiny: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script(tmp_path, monkeypatch)
    at_once, alone = tmp_path / "at once", tmp_path / "alone"
    for folder, options in ((at_once, ["--jobs", "2"]), (alone, [])):
        write_pace(folder / "results")
        places = ["--runs", str(folder / "runs"), "--results", str(folder / "results")]
        with pytest.raises(SystemExit) as stopped:
            main(["replicate", NAME, *places, *options])
        assert stopped.value.code == 0
    for cell in (0, 1):
        task = task_of(tiny, cell)
        weights = [load_file(task.run(f / "runs").last / "model.safetensors") for f in (at_once, alone)]
        assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
        assert read_run(task.result(at_once / "results"))["steps"] == 4
    assert len(list((at_once / "runs" / "logs").glob("tiny-*.log"))) == 2


def test_a_stop_reaches_the_processes_which_save_all(
    tiny: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, RECORDS, Preset("a test", _longer(PRESETS[RECORDS].config)))
    script = write_script(tmp_path, monkeypatch)
    runs, results = tmp_path / "runs", tmp_path / "results"
    write_pace(results)
    command = [sys.executable, str(script), "replicate", NAME, "--runs", str(runs), "--results", str(results)]
    # The parent is the plain module, which does not know the comparison: it is run in the script too.
    code = f"import runpy, sys; from research import jobs; jobs.TRIVD = (sys.executable, {str(script)!r}); "
    code += f"sys.argv = {[str(script), *command[2:], '--jobs', '2']!r}; runpy.run_path(sys.argv[0])"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    task = task_of(tiny)
    deadline = time.monotonic() + 600
    while not list(Run(task.run(runs).folder).checkpoints.glob("step-*")):
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.1)
    parent.terminate()
    said, _ = parent.communicate(timeout=600)
    assert parent.returncode == 3, said
    assert "Stopped; all is saved." in said
    assert not task.result(results).exists()
    checkpoints = list(Run(task.run(runs).folder).checkpoints.glob("step-*"))
    assert checkpoints  # the tests of resuming cover what the repeated command does


def _longer(config: Config) -> Config:
    return replace(config, training=replace(config.training, steps=100_000, checkpoint_every=1))


def test_a_run_that_fails_is_named_and_the_others_are_done(
    tiny: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script(tmp_path, monkeypatch)
    runs, results = tmp_path / "runs", tmp_path / "results"
    task = task_of(tiny, 0)
    task.run(runs).folder.mkdir(parents=True)
    (task.run(runs).folder / "another file").touch()
    tasks = [task_of(tiny, cell) for cell in (0, 1)]
    write_pace(results)

    def words(task: Task) -> list[str]:
        places = ["--runs", str(runs), "--results", str(results)]
        return ["replicate", NAME, "--cells", task.cell.label, "--seeds", "1", *places]

    with pytest.raises(TrivdError, match=r"Some runs have failed: conv_gru with seed 0 .*tiny-conv_gru-seed0\.log"):
        jobs.run_at_once(tasks, 2, words, runs=runs, results=results, console=quiet())
    assert "is not empty and holds no run" in (runs / "logs" / "tiny-conv_gru-seed0.log").read_text()
    assert tasks[1].is_done(results)


def test_paces_are_measured_once_and_set_equal_times(tiny: Comparison, tmp_path: Path) -> None:
    file = tmp_path / RECORDS / "pace.json"
    found = paces(tiny, {}, tmp_path, quiet())
    assert set(found) == {"conv_gru", "tsru_p"}
    assert all(pace.seconds > 0 and pace.peak_bytes for pace in found.values())
    before = file.read_bytes()
    assert paces(tiny, {}, tmp_path, quiet()) == found
    assert file.read_bytes() == before
    assert steps_of(tiny, Pace(0.5, None)) is None
    timed = replace(tiny, seconds=600)
    assert steps_of(timed, Pace(0.7, None)) == 857
    assert steps_of(timed, Pace(900.0, None)) == 1
    for damage in ("[]", "{"):
        file.write_text(damage)
        with pytest.raises(TrivdError, match="does not hold the pace of runs"):
            paces(tiny, {}, tmp_path, quiet())


def test_runs_whose_minutes_are_set_are_listed_without_a_measurement(
    tiny: Comparison, trivd_command: Command, tmp_path: Path
) -> None:
    folders = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))
    settings = ("training.minutes=30", "training.steps=1000000")
    status, out, _ = trivd_command("replicate", NAME, "--dry-run", "--seeds", "3", *folders, "--set", *settings)
    assert status == 0
    assert "Measuring" not in out
    assert "Hours are of one device: 3 in all for what is left." in out  # two cells, three seeds, half an hour
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("weizmann",), "A folder of videos, or a store, is not named; give --data PATH."),
        (("ucf101", "--data", "x"), "The folder of UCF-101 is not named; give --ucf101 PATH."),
        (("table2", "--jobs", "0"), "--jobs is 0; it must be at least 1"),
        (("table2", "--seeds", "0"), "--seeds is 0; it must be at least 1"),
        (("table2", "--clips", "0"), "--clips belongs to figure3; leave it out for table2."),
        (("table3", "--scale", "small"), "The comparison table3 has no scale small"),
    ],
)
def test_bad_options_get_one_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["replicate", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
