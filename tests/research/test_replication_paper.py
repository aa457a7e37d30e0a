"""`trivd replicate` at the paper's scale, with small networks and few steps on small videos in the right layouts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from paper_data import write_kinetics, write_ucf101
from PIL import Image
from run_checks import Command

from research.costs import Reference, disk_bytes
from trivd.config import Config, Decomposition, from_dict
from trivd.presets import preset
from trivd.training.plan import make_plan

SMALL_NETWORKS = ("model.generator-channels=2", "model.discriminator-channels=2", "training.batch-size=2")
FEW_CLIPS = (
    *("evaluation.clips=40", "evaluation.best-of-clips=2", "evaluation.samples=2", "evaluation.runs=1"),
    *("evaluation.standing-batches=1", "evaluation.standing-batch-size=2"),
    *("data.workers=0", "training.device=cpu", "training.precision=float32"),
)
NO_FEATURES = ("evaluation.features=none", "training.steps=2", "training.log-every=1")


@pytest.fixture(scope="session")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kinetics(tmp_path_factory.mktemp("paper") / "kinetics600")


@pytest.fixture(scope="session")
def ucf101(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ucf101(tmp_path_factory.mktemp("paper") / "ucf101")


@pytest.fixture
def replicate(trivd_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `trivd replicate` with runs and results in the folder of the test."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, settings: tuple[str, ...] = ()) -> tuple[int, str, str]:
        return trivd_command("replicate", *words, *places(settings))

    return run


def places(settings: tuple[str, ...]) -> list[str]:
    return ["--runs", "runs", "--results", "results", "--set", *SMALL_NETWORKS, *FEW_CLIPS, *settings]


def stamps(*folders: str) -> dict[Path, int]:
    """When each file was written."""
    files = (path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_dry_run_lists_costs_and_what_is_missing(replicate: Command, kinetics: Path) -> None:
    words = ("table1", "--dry-run", "--cells", "clip", "--seeds", "2")
    status, out, _ = replicate(*words, "--data", kinetics)
    assert status == 0
    assert "758,000" in out
    assert "Measured: a step of 1 clip takes" in out
    assert "Not ready: There are no I3D weights in" in out
    assert not Path("runs").exists()
    kept = stamps("results")
    (file,) = kept  # the measured step
    measured = from_dict(Reference, json.loads(file.read_text())["reference"])
    config = json.loads(file.read_text())
    assert config["hardware"]["device"] == "cpu"
    status, out, _ = replicate(*words, "--scale", "paper")
    assert "Not ready: The folder of Kinetics-600 is not named; give --data PATH." in out
    assert stamps("results") == kept  # not measured again
    plan = make_plan(preset("table1-clip"))
    expected = measured.seconds * (plan.discriminator_flops + plan.generator_flops) / measured.flops
    assert measured.seconds_of(plan) == pytest.approx(expected)


def test_what_is_missing_is_reported_before_anything_is_trained(
    replicate: Command, kinetics: Path, tmp_path: Path
) -> None:
    for words, message in (
        (("table3", "--data", kinetics), "There are no I3D weights in"),
        (("ucf101", "--data", kinetics), "The folder of UCF-101 is not named; give --ucf101 PATH."),
        (("head", "--data", tmp_path / "nowhere"), "nowhere is not a folder of videos"),
        (("table4", "--data", kinetics), "kinetics600"),
    ):
        status, _, err = replicate(*words)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1
    assert stamps("runs", "results") == {}


def test_table_1_from_videos_to_the_table(replicate: Command, kinetics: Path) -> None:
    """All nine rows trained, scored by the paper's protocol and set beside its figures; a repeat does nothing."""
    words = ("table1", "--data", kinetics)
    settings = ("training.steps=6", "training.ema-start=3", "evaluation.features=moving-digits")
    settings += ("training.discriminator-updates=1",)
    status, out, err = replicate(*words, settings=settings)
    assert (status, err) == (0, "")
    assert "All 9 runs are done. Written: results/paper-table1.json" in out
    text = Path("results/paper-table1.md").read_text()
    flat = " ".join(text.split())
    assert "**Settings other than the paper's: `data.workers` 0, `evaluation.best_of_clips` 2, " in flat
    assert "kinetics600 by protocol kinetics600-validation, validation split, 64 pixels" in flat
    for cells in ("| faster | 1 | 46.1 | ", " | 11.7 | ", " | 817,000 | 6 | 453 | ", " | 3.54 |  |"):
        assert cells in text
    assert "| copy the last frame |  | 330 |" in text
    assert "stronger better than faster | 6.8 | " in text
    assert Path("results/paper-table1.svg").read_text().startswith("<?xml")
    runs = json.loads(Path("results/paper-table1.json").read_text())["runs"]
    assert [run["cell"] for run in runs] == list(get_args(Decomposition))
    assert all(run["steps"] == 6 and run["pace"]["seconds"] > 0 for run in runs)
    models = list(Path("runs").glob("conv_gru-*/best/model.safetensors"))
    assert len(models) == 9

    before = stamps("runs", "results/paper-table1")
    table = Path("results/paper-table1.md").read_bytes()
    status, out, _ = replicate(*words, settings=settings)
    assert status == 0
    assert "(0 left)" in out
    assert stamps("runs", "results/paper-table1") == before
    assert Path("results/paper-table1.md").read_bytes() == table

    for run in runs:  # the space on disk that the costs list
        config = from_dict(Config, run["config"])
        (folder,) = Path("runs").glob(f"conv_gru-{run['cell']}-*")
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        (checkpoint,) = folder.glob("checkpoints/*/state.safetensors")
        plan = make_plan(config)
        parameters = 4 * plan.generator_parameters + 3 * sum(plan.discriminator_parameters.values())
        assert 4 * parameters < checkpoint.stat().st_size < 4.8 * parameters
        assert used < disk_bytes(config, plan)

    status, _, err = replicate(*words)  # other settings
    assert status == 2
    Path("results/paper-table1.md").write_text("mine\n")
    status, _, err = replicate(*words, settings=settings)
    assert status == 2
    assert "paper-table1.md is not the table of paper-table1; move it away" in err


def test_figure_3_is_drawn_from_the_model_of_table_3(replicate: Command, kinetics: Path, ucf101: Path) -> None:
    data = ("--data", kinetics, "--ucf101", ucf101)
    status, _, err = replicate("figure3", *data, "--clips", "0", "99", settings=NO_FEATURES)
    assert status == 2
    assert "--clips names 99, but UCF-101's test list has clips 0 to" in err
    status, _, err = replicate("figure3", *data, "--clips", "0", settings=NO_FEATURES)
    assert (status, err) == (0, "")
    with Image.open("results/paper-figure3.png") as picture:
        one = picture.height
    assert "](paper-figure3.png)" in Path("results/paper-figure3.md").read_text()
    assert "Clips 0 of UCF-101's test list 1" in Path("results/paper-figure3.md").read_text()
    trained = stamps("runs")
    assert replicate("figure3", *data, "--clips", "0", "1", settings=NO_FEATURES)[0] == 0
    with Image.open("results/paper-figure3.png") as picture:
        assert one < picture.height < 2 * one + 50
    assert stamps("runs") == trained


def test_processes_of_torchrun_share_each_run(replicate: Command, kinetics: Path, ucf101: Path) -> None:
    """Trained on Kinetics-600, scored on UCF-101, by two processes; one alone finds it done."""
    words = ["replicate", "ucf101", "--cells", "dvd_gan_fp, ch 48", "--data", str(kinetics), "--ucf101", str(ucf101)]
    words += places(NO_FEATURES)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trivd"]
    finished = subprocess.run(
        [*torchrun, *words], capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("1/1: dvd_gan_fp, ch 48, seed 0") == 1  # the first process speaks
    (run,) = json.loads(Path("results/paper-ucf101.json").read_text())["runs"]
    assert (run["processes"], run["data"], run["steps"]) == (2, "kinetics600", 2)
    assert run["evaluations"][""]["protocol"]["data"] == "ucf101 by protocol ucf101"
    assert "each on 2 processes with 1 thread" in " ".join(Path("results/paper-ucf101.md").read_text().split())
    before = stamps("runs", "results/paper-ucf101")
    assert replicate(*words[1 : words.index("--runs")], settings=NO_FEATURES)[0] == 0
    assert stamps("runs", "results/paper-ucf101") == before
