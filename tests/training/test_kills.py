"""Processes that are killed, stopped or cut off while they train: the run goes on from its last checkpoint."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from run_checks import assert_same_run, run_to

from trivd.config import Config
from trivd.training.run import Run

KILLS = int(os.environ.get("TRIVD_TEST_KILLS", "8"))  # `make soak` asks for more
LONGEST = 1.0  # seconds that a process lives, at most


def train_on(config: Config, folder: Path) -> None:
    torch.set_num_threads(1)
    run_to(folder, config)


@pytest.mark.kills
def test_a_run_that_is_killed_again_and_again_is_the_run_without_kills(
    tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    """Killed at random moments, also while it writes a checkpoint: one is written after every step."""
    config = tiny_config(training={"steps": 4 * KILLS, "checkpoint_every": 1, "evaluate_every": 7, "sample_every": 99})
    train_on(config, tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")  # each process starts with torch already there
    rng = random.Random(0)
    run = Run(tmp_path / "killed")
    killed = late = 0
    while killed < KILLS:
        process = context.Process(target=train_on, args=(config, run.folder))
        process.start()
        process.join(rng.uniform(0.1, LONGEST))
        if process.exitcode is None:
            killed += 1
            late += any(run.checkpoints.glob("step-*"))
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0:
            break
    train_on(config, run.folder)
    assert killed >= KILLS // 2
    assert late >= killed // 2  # it had trained before
    assert_same_run(run.folder, tmp_path / "whole", config.training.steps)
    assert not list(run.checkpoints.glob(".*"))  # nothing half-written is left
