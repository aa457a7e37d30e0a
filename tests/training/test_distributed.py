"""Several processes train as one: the same losses, statistics and weights, however the global batch is shared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from run_checks import Command, run_to
from torch import Tensor

from trivd.config import Config, from_dict, to_dict
from trivd.data.clips import open_clips
from trivd.data.loader import TrainingStream
from trivd.runtime.distributed import any_process
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_float
from trivd.training import loop
from trivd.training import run as run_module
from trivd.training import step as step_module
from trivd.training.division import divide
from trivd.training.run import Run
from trivd.training.step import Trainer

CPU = torch.device("cpu")
STEPS = 3
BATCH, PASSES = 8, 2

State = dict[str, Tensor]
Result = tuple[list[State], State]


def test_a_single_process_does_not_wait_for_its_device() -> None:
    """Before each step it would wait for the last one; of this device, no value can be read."""
    assert any_process(True, torch.device("meta"))
    assert not any_process(False, torch.device("meta"))


def trained(config: Config, rank: int, world: int) -> Result:
    """Losses of some steps in float64, and all that was trained, in one of the processes."""
    recipe = config.training
    passes, clips = divide(recipe, world)
    assert passes == PASSES
    dataset = open_clips("moving-digits", "train", config.data, config.model)
    stream = iter(TrainingStream(dataset, clips, recipe.seed, 0, 0, rank=rank, world=world))
    trainer = Trainer(config, CPU, torch.float64)
    losses = []
    for _ in range(STEPS):
        updates = [[next(stream) for _ in range(passes)] for _ in range(recipe.discriminator_updates)]
        losses.append(trainer.train_step(updates))
    state = {f"generator/{name}": value for name, value in trainer.generator.state_dict().items()}
    state |= {f"discriminators/{name}": value for name, value in trainer.discriminators.state_dict().items()}
    state |= {f"average/{name}": value for name, value in trainer.ema.weights.items()}
    state |= {f"lecam/{view}": value for view, value in trainer.anchors.averages.items()}
    return losses, state


def in_float64(configs: list[Config], rank: int, world: int) -> list[Result]:
    """The results of all configurations, one after the other."""
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(step_module, "to_float", lambda video: to_float(video).double()):
            return [trained(config, rank, world) for config in configs]
    finally:
        torch.set_default_dtype(torch.float32)


def train_a_share(rank: int, world: int, configs: list[dict[str, Any]], folder: Path) -> None:
    """One of several processes."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    patience = timedelta(seconds=600)
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=patience)
    try:
        results = in_float64([from_dict(Config, config) for config in configs], rank, world)
        torch.save(results, folder / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def test_the_batch_is_one_however_it_is_shared(tmp_path: Path, tiny_config: Callable[..., Config]) -> None:
    """Passes of four clips of ten classes, each drawn twice; both heads: pairs are formed over all processes (E.1)."""
    recipe = {"batch_size": BATCH, "ema_start": 2, "discriminator_updates": 1, "precision": "float32"}
    # Beyond 1, where rates like these bring the outputs, the hinge makes the losses depend on the pairs.
    recipe |= {"reconstruction": 1.0, "reconstruction_samples": 2, "discriminator_lr": 0.05, "epsilon": 1e-3}
    recipe |= {"lecam": 0.3, "r1": 0.1, "r1_every": 2, "augment": ["translation", "colour", "cutout"]}
    recipe |= {"diversity": 0.1, "curriculum": 0.5, "curriculum_start": 2}

    def configs(world: int) -> list[Config]:
        return [
            tiny_config(
                model={"classes": 10},
                discriminator={"decomposition": "stronger", "head": head},
                training=recipe | {"microbatch": BATCH // PASSES // world},
            )
            for head in ("mixed_projection", "projection")
        ]

    expected = in_float64(configs(1), 0, 1)
    for world in (2, 4):
        folder = tmp_path / str(world)
        folder.mkdir()
        arguments = (world, [to_dict(config) for config in configs(world)], folder)
        torch.multiprocessing.start_processes(train_a_share, arguments, nprocs=world, start_method="forkserver")
        for rank in range(world):
            found = torch.load(folder / f"{rank}.pt", weights_only=True)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def options(steps: int, out: Path) -> list[str]:
    """`trivd train` of quickstart's model, in float32."""
    command = ["train", "moving-digits", "--preset", "quickstart"]
    command += ["--out", str(out), "--training.steps", str(steps), "--training.batch-size", "4"]
    # With such an epsilon, rounding does not decide the sign of Adam's first updates.
    command += ["--training.precision", "float32", "--training.epsilon", "0.01", "--data.workers", "0"]
    command += ["--training.discriminator-updates", "1", "--training.log-every", "1", "--evaluation.clips", "5"]
    command += ["--evaluation.standing-batches", "3", "--evaluation.standing-batch-size", "4"]
    return command


def by_two_processes(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """The end of a command, by two processes of torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trivd"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*torchrun, *arguments], capture_output=True, text=True, timeout=300, env=environment)


def test_what_the_first_process_refuses_all_refuse(tmp_path: Path) -> None:
    """In its words, not because a process has ended."""
    out = tmp_path / "occupied"
    out.mkdir()
    (out / "letter.txt").write_text("kept")
    finished = by_two_processes(options(1, out))
    said = [line for line in finished.stderr.splitlines() if line.startswith("trivd: ")]
    assert finished.returncode != 0
    assert said  # torchrun may end the other before it speaks
    assert set(said) == {f"trivd: {out} is not empty and holds no run; choose another --out."}
    assert [path.name for path in out.iterdir()] == ["letter.txt"]


def test_a_run_resumes_on_another_number_of_processes(tmp_path: Path, trivd_command: Command) -> None:
    finished = by_two_processes(options(2, tmp_path / "shared"))
    assert finished.returncode == 0, finished.stderr
    said = finished.stdout
    assert "Global batch: 4 clips = 2 x 1 x 2 (processes x passes x clips)." in said
    assert said.count("Starting") == 1  # the first process speaks
    status, said, _ = trivd_command(*options(3, tmp_path / "shared"))
    assert status == 0
    assert "from step 2" in said
    assert trivd_command(*options(3, tmp_path / "single"))[0] == 0
    runs = [Run(tmp_path / name) for name in ("shared", "single")]
    shared, single = ([row for row in run.log_rows() if "loss/reconstruction" in row] for run in runs)
    assert [row["step"] for row in shared] == [1, 2, 3]
    for row, expected in zip(shared, single, strict=True):
        for name, value in expected.items():
            if name.startswith("loss/"):
                assert row[name] == pytest.approx(value, rel=1e-2, abs=1e-2), (row["step"], name)
    scores = [next(row for row in run.log_rows() if "score/train/psnr" in row) for run in runs]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)  # before training: by two processes and by one
    samples = [json.loads((run.checkpoints / "step-00000003" / "progress.json").read_text())["samples"] for run in runs]
    assert samples == [12, 12]


def test_processes_that_cannot_share_the_batch_are_refused(
    tmp_path: Path, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written or the data are looked at."""
    monkeypatch.setattr(loop, "open_splits", lambda *_: pytest.fail("it looked at the data"))
    monkeypatch.setattr(run_module, "world_size", lambda: 3)
    with pytest.raises(
        TrivdError, match=r"3 processes cannot share the 8 clips .*--training\.batch-size.*start 2 or 4"
    ):
        run_to(tmp_path / "run", tiny_config(training={"batch_size": 8}))
    assert not (tmp_path / "run").exists()
