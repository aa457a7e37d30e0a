"""Several processes train as one: the same losses, statistics and weights, however the global batch is shared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from run_checks import Command
from torch import Tensor

from trivd.config import Config, from_dict, override, to_dict
from trivd.data.clips import open_clips
from trivd.data.loader import TrainingStream
from trivd.models.discriminators import Head, Scores, combine
from trivd.runtime.errors import TrivdError
from trivd.training import step as step_module
from trivd.training.run import Run
from trivd.training.step import Trainer

CPU = torch.device("cpu")
STEPS = 5
GLOBAL_BATCH = 8

State = dict[str, Tensor]


def trained(config: Config, rank: int, world: int) -> tuple[list[State], State]:
    """Losses of some steps in float64, and all that was trained, in one of the processes."""
    recipe = config.training
    dataset = open_clips("moving-digits", "train", config.data, config.model)
    stream = iter(TrainingStream(dataset, recipe.batch_size, recipe.seed, 0, 0, rank=rank, world=world))
    trainer = Trainer(config, CPU, torch.float64)
    losses = []
    for _ in range(STEPS):
        updates = [[next(stream) for _ in range(recipe.accumulation)] for _ in range(recipe.discriminator_updates)]
        losses.append(trainer.train_step(updates))
    state = {f"generator/{name}": value for name, value in trainer.generator.state_dict().items()}
    state |= {f"discriminators/{name}": value for name, value in trainer.discriminators.state_dict().items()}
    state |= {f"average/{name}": value for name, value in trainer.ema.weights.items()}
    return losses, state


def in_groups(groups: int) -> Callable[[Scores, Head], Tensor]:
    """Outputs whose pairs are formed within groups of samples, as if each group had a process of its own."""

    def combined(scores: Scores, head: Head) -> Tensor:
        rows = torch.arange(len(scores.video)).unflatten(0, (-1, groups, GLOBAL_BATCH // groups))  # copy after copy
        parts = [rows[:, group].flatten() for group in range(groups)]
        return torch.cat([combine(Scores(scores.video[part], scores.joint[part]), head).flatten() for part in parts])

    return combined


def train_a_share(rank: int, world: int, groups: int, config: dict[str, Any], folder: Path) -> None:
    """One of several processes."""
    torch.set_num_threads(1)
    if groups > 1:
        step_module.combine = in_groups(groups)  # type: ignore[assignment]
    torch.set_default_dtype(torch.float64)
    to_float = step_module.to_float
    step_module.to_float = lambda video: to_float(video).double()  # type: ignore[assignment]
    if world > 1:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'store'}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=600),
        )
    try:
        torch.save(trained(from_dict(Config, config), rank, world), folder / f"{rank}.pt")
    finally:
        if world > 1:
            torch.distributed.destroy_process_group()


@pytest.fixture
def results(tmp_path: Path, tiny_config: Callable[..., Config]) -> Callable[..., list[tuple[list[State], State]]]:
    def train(world: int, groups: int = 1, **changes: Any) -> list[tuple[list[State], State]]:
        recipe = {"batch_size": GLOBAL_BATCH // world, "accumulation": 2, "ema_start": 2}
        config = tiny_config(training=recipe | {"discriminator_updates": 1, "precision": "float32"}, **changes)
        folder = tmp_path / str(world)
        folder.mkdir()
        arguments = (world, groups, to_dict(config), folder)
        torch.multiprocessing.start_processes(train_a_share, arguments, nprocs=world, start_method="forkserver")
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]

    return train


def test_the_batch_is_one_however_it_is_shared(results: Callable[..., list[tuple[list[State], State]]]) -> None:
    """Head projection: mixed pairs are formed within a process."""
    discriminators = {"decomposition": "stronger", "head": "projection"}
    (expected,) = results(1, discriminator=discriminators)
    for world in (2, 4):
        for found in results(world, discriminator=discriminators):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_mixed_pairs_are_formed_within_a_process(results: Callable[..., list[tuple[list[State], State]]]) -> None:
    """E.1, Eq 15: two processes of four are one of eight whose pairs stay within each four."""
    discriminators = {"decomposition": "stronger", "head": "mixed_projection"}
    (expected,) = results(1, groups=2, discriminator=discriminators)
    for found in results(2, discriminator=discriminators):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def options(batch_size: int, steps: int, out: Path) -> list[str]:
    """`trivd train` of quickstart's model, in float32."""
    command = ["train", "moving-digits", "--preset", "quickstart"]
    command += ["--out", str(out), "--training.steps", str(steps), "--training.batch-size", str(batch_size)]
    command += ["--training.precision", "float32", "--discriminator.head", "projection", "--data.workers", "0"]
    command += ["--training.discriminator-updates", "1", "--training.log-every", "1", "--evaluation.clips", "5"]
    command += ["--evaluation.standing-batches", "3", "--evaluation.standing-batch-size", "4"]
    return command


def test_a_run_resumes_on_another_number_of_processes(tmp_path: Path, trivd_command: Command) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trivd"]
    finished = subprocess.run(
        [*torchrun, *options(2, 2, tmp_path / "shared")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    said = finished.stdout
    assert "Global batch: 4 clips = 2 x 2 processes x 1 passes." in said
    assert "The preset was made for 8." in said
    assert said.count("Starting") == 1  # the first process speaks
    status, said, _ = trivd_command(*options(2, 3, tmp_path / "shared"))
    assert status == 0
    assert "from step 2" in said
    assert trivd_command(*options(4, 3, tmp_path / "single"))[0] == 0
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


def test_processes_that_cannot_share_the_batch_are_refused(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    run, config = Run(tmp_path / "run"), tiny_config()
    with run.opened(config, "moving-digits"):
        values = json.loads(run.config_file.read_text())
    assert values["processes"] == 1
    run.config_file.write_text(json.dumps(values | {"processes": 2}))  # as if started on two
    with run.opened(config, "moving-digits") as settings:
        assert settings.training.batch_size == 2 * config.training.batch_size
    other = override(config, {"training": {"batch_size": 5}}, "test")
    with pytest.raises(TrivdError, match=r"training\.batch_size"), run.opened(other, "moving-digits"):
        pass
