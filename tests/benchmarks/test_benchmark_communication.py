"""`trivd benchmark communication`: what it counts is what the networks' sizes say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.suites.communication import Communication
from trivd.models.discriminators import Discriminators
from trivd.models.frame_norm import FrameNormReLU
from trivd.models.generator import Generator
from trivd.presets import preset
from trivd.runtime.errors import TrivdError


def test_two_processes_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "communication.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trivd"]
    command += ["benchmark", "communication", "--quick", "--turns", "1", "--json", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("communication 1/1: preset quickstart") == 1  # the first process speaks
    (row,) = json.loads(path.read_text())["rows"]
    config = preset("quickstart")
    with torch.device("meta"):
        generator, discriminators = Generator(config.model), Discriminators(config.discriminator, config.model)
    sizes = [4 * sum(parameter.numel() for parameter in module.parameters()) for module in (discriminators, generator)]
    updates = config.training.discriminator_updates
    assert row["gradient_bytes"] == updates * sizes[0] + sizes[1]
    norms = [module for module in generator.modules() if isinstance(module, FrameNormReLU)]
    # Each normalisation when futures are drawn, once per update, and on the way back; and the losses of each update.
    expected = len(norms) * (updates + 2) + updates + 1
    # Each discriminator's mixed pairs and their gradients: of true and drawn clips, and of those of the G update.
    expected += len(discriminators) * (4 * updates + 2)
    assert row["statistics_calls"] == expected
    assert row["batch_size"] == config.training.batch_size
    assert row["processes"] == 2
    assert row["share"] == pytest.approx(1 - row["seconds"]["alone"] / row["seconds"]["together"])


def test_one_process_has_nobody_to_talk_to() -> None:
    suite = Communication.quick()
    with pytest.raises(TrivdError, match="start several by torchrun --nproc-per-node=2"):
        suite.measure(suite.cases()[0], torch.device("cpu"))
