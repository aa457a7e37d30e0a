"""An evaluation by several processes is that of one, also after a stop and on another number of processes."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.multiprocessing
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from trivd.config import Config, from_dict
from trivd.evaluation.evaluate import evaluate_model
from trivd.evaluation.in_python import evaluate_predictions
from trivd.evaluation.networks.features import Features
from trivd.evaluation.networks.inputs import INPUTS
from trivd.evaluation.outcome import Evaluation, read_evaluation
from trivd.evaluation.subjects import TrainedModel
from trivd.models.pretrained import load_generator
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


class SmallI3D:
    """A stand-in for I3D: its input, one random 3D convolution, six logits; its features are kept as I3D's are."""

    distance, inception, about, shortest, fingerprint = "FVD (small)", "IS (small)", "small", 5, "small i3d"

    def __init__(self) -> None:
        self.weight = 0.1 * torch.randn(6, 3, 3, 7, 7, generator=torch.Generator().manual_seed(0))

    def __call__(self, video: Tensor) -> Features:
        logits = F.conv3d(INPUTS["reference"](video).movedim(-1, 1), self.weight, stride=(1, 16, 16)).relu()
        return Features(logits.mean(dim=(2, 3, 4)), logits.mean(dim=(2, 3, 4)))


def evaluate_with_features(run: Path, report: Path) -> Evaluation:
    """The evaluation of the run's best model in features of the stand-in."""
    generator, history = load_generator(run / "best", torch.device("cpu"))
    config = from_dict(Config, history["config"], "the model's settings")
    config = replace(config, evaluation=replace(config.evaluation, clips=9, best_of_clips=3, batch_size=2))
    with mock.patch("trivd.evaluation.evaluate.choose_network", return_value=SmallI3D()):
        return evaluate_model(
            TrainedModel(generator, history, torch.float32),
            config,
            "moving-digits",
            name="moving-digits",
            split=None,
            device=torch.device("cpu"),
            report=report,
        )


def evaluate_arrays(report: Path) -> Evaluation:
    """The evaluation of two noisy samples of each of nine clips, in features of the stand-in."""
    rng = np.random.default_rng(0)
    truth = rng.integers(256, size=(9, 5, 16, 16, 3), dtype=np.uint8)
    samples = np.clip(truth[:, None].astype(int) + rng.integers(-30, 30, size=(9, 2, 5, 16, 16, 3)), 0, 255)
    with mock.patch("trivd.evaluation.in_python.choose_network", return_value=SmallI3D()):
        return evaluate_predictions(samples.astype(np.uint8), truth, conditioning_frames=2, batch_size=2, report=report)


def evaluate_a_share(rank: int, run: Path, folder: Path) -> None:
    """One of two processes, which share the library as well."""
    torch.set_num_threads(1)
    os.environ["TRIVD_HOME"] = str(folder / "library")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2, timeout=timedelta(seconds=300)
    )
    try:
        evaluate_with_features(run, folder / "two.json")
        os.environ["TRIVD_HOME"] = str(folder / "library of arrays")
        evaluate_arrays(folder / "two of arrays.json")
    finally:
        torch.distributed.destroy_process_group()


def test_features_of_two_processes_give_the_figures_of_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.multiprocessing.start_processes(evaluate_a_share, (run, tmp_path), nprocs=2, start_method="forkserver")
    two = read_evaluation(tmp_path / "two.json")
    assert len(list((tmp_path / "library" / "features").glob("*/*"))) == 2 * two.protocol.clips  # truth and copies
    for library in ("library", "another"):  # with what the two have kept, and without
        monkeypatch.setenv("TRIVD_HOME", str(tmp_path / library))
        one = evaluate_with_features(run, tmp_path / f"{library}.json")
        assert one.protocol == two.protocol
        figures = {figure.name: figure.model.mean for figure in one.figures}
        assert {figure.name: figure.model.mean for figure in two.figures} == pytest.approx(figures, rel=1e-3, abs=1e-4)
        assert two.figure("FVD (small)").copy == pytest.approx(one.figure("FVD (small)").copy, rel=1e-6)
    of_arrays = read_evaluation(tmp_path / "two of arrays.json")
    assert of_arrays == evaluate_arrays(tmp_path / "one of arrays.json")
    assert of_arrays.figure("FVD (small)").model.mean > 0
