"""Processes that are killed, stopped or cut off while they train: the run goes on from its last checkpoint."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from run_checks import assert_same_run, run_to

from trivd.config import Config
from trivd.training.checkpoint import list_checkpoints
from trivd.training.run import Run

KILLS = int(os.environ.get("TRIVD_TEST_KILLS", "8"))  # `make soak` asks for more
LONGEST = 1.0  # seconds that a process lives, at most, or 0.3 of them after its first checkpoint


def train_on(config: Config, folder: Path) -> None:
    torch.set_num_threads(1)
    run_to(folder, config)


@pytest.mark.kills
def test_a_run_that_is_killed_again_and_again_is_the_run_without_kills(
    tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    """Killed at random moments, also while it writes a checkpoint: one is written after every step."""
    config = tiny_config(training={"steps": 8 * KILLS, "checkpoint_every": 1, "evaluate_every": 7, "sample_every": 99})
    train_on(config, tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")  # each process starts with torch already there
    rng = random.Random(0)
    run = Run(tmp_path / "killed")
    killed = trained = 0
    while killed < KILLS:
        before = list_checkpoints(run.checkpoints)[-1:]
        process = context.Process(target=train_on, args=(config, run.folder))
        process.start()
        if killed % 4:  # else anywhere, also before its first step
            while process.exitcode is None and list_checkpoints(run.checkpoints)[-1:] == before:
                time.sleep(0.01)
            process.join(rng.uniform(0, 0.3 * LONGEST))
        else:
            process.join(rng.uniform(0, LONGEST))
        if process.exitcode is None:
            killed += 1
            trained += list_checkpoints(run.checkpoints)[-1:] != before
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0:
            break
    train_on(config, run.folder)
    assert killed >= KILLS // 2
    assert trained >= killed // 2
    assert_same_run(run.folder, tmp_path / "whole", config.training.steps)
    assert not list(run.checkpoints.glob(".*"))  # nothing half-written is left
