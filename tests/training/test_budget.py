"""Runs that are measured in time, by a clock that moves where it is told to."""

import io
import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from run_checks import MakeConfig, assert_same_run, run_to

from trivd.config import TrainingConfig
from trivd.data.loader import Batch
from trivd.runtime import distributed
from trivd.training import budget, session
from trivd.training.budget import Budget
from trivd.training.checkpoint import _digest
from trivd.training.draws import StepInputs
from trivd.training.log import TrainingLog
from trivd.training.objectives import Losses
from trivd.training.run import Run
from trivd.training.snapshot import SplitScores
from trivd.training.step import Trainer

CPU = torch.device("cpu")
SECONDS = 8.0
HALF_LIFE, STEPS = 25, 100  # so L1 halves in a quarter of the time


class Clock:
    """In place of the module `time`."""

    now = 3.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for which a step takes a second and an evaluation a hundred."""
    clock, make_step, make_scores = Clock(), Trainer.train_step, SplitScores.__call__

    def step(trainer: Trainer, updates: Sequence[Sequence[Batch]]) -> Losses:
        clock.now += 1.0
        return make_step(trainer, updates)

    def scores(self: SplitScores, *arguments: Any) -> dict[str, float]:
        clock.now += 100.0
        return make_scores(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr(SplitScores, "__call__", scores)
    for module in (budget, session):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def weights_of_l1(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The weights of L1 in all steps."""
    seen: list[float] = []
    original = Trainer._on_device

    def noted(trainer: Trainer, inputs: StepInputs) -> StepInputs:
        seen.append(inputs.reconstruction.item())
        return original(trainer, inputs)

    monkeypatch.setattr(Trainer, "_on_device", noted)
    return seen


RECIPE: dict[str, Any] = {"minutes": SECONDS / 60, "steps": STEPS, "evaluate_every": 5, "sample_every": 100}
RECIPE |= {"reconstruction": 64.0, "reconstruction_half_life": HALF_LIFE, "ema_start": 30, "checkpoint_every": 100}


def test_a_run_takes_its_time_whatever_stops_it(
    tmp_path: Path, tiny_config: MakeConfig, clock: Clock, weights_of_l1: list[float], after_step: Callable[..., None]
) -> None:
    """Schedules follow the time, scores are not counted, and a run in two sessions is the same bit for bit."""
    config = tiny_config(training=RECIPE)
    complete, said = run_to(tmp_path / "whole", config)
    assert complete
    assert "Done: 8 steps, 5.1 min." in said  # of which scoring took 300 seconds: before, after 5, and at the end
    assert weights_of_l1 == pytest.approx([64 * 0.5 ** (4 * step / SECONDS) for step in range(8)], rel=1e-6)
    rows = [row for row in Run(tmp_path / "whole").log_rows() if "schedule/share" in row]
    assert [(row["step"], row["schedule/share"]) for row in rows] == [(step + 1, step / SECONDS) for step in range(8)]
    assert "is complete: 8 steps" in run_to(tmp_path / "whole", config)[1]

    weights_of_l1.clear()
    after_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not run_to(tmp_path / "parts", config)[0]
    saved = json.loads((tmp_path / "parts/checkpoints/step-00000004/progress.json").read_text())
    assert saved["spent"] == 4.0
    clock.now = 1000.0
    assert run_to(tmp_path / "parts", config)[0]
    assert weights_of_l1 == pytest.approx([64 * 0.5 ** (4 * step / SECONDS) for step in range(8)], rel=1e-6)
    assert_same_run(tmp_path / "parts", tmp_path / "whole", 8)


def test_time_is_added_and_steps_remain_a_limit(tmp_path: Path, tiny_config: MakeConfig, clock: Clock) -> None:
    """To a run of an earlier version, too, all of whose time counts."""
    few = RECIPE | {"evaluate_every": 100, "minutes": None, "steps": 2}
    assert run_to(tmp_path / "run", tiny_config(training=few))[0]
    file = tmp_path / "run/checkpoints/step-00000002/progress.json"
    values = {name: value for name, value in json.loads(file.read_text()).items() if name != "spent"}
    state = file.with_name("state.safetensors").read_bytes()
    file.write_text(json.dumps(values | {"sha256": _digest(state, values)}))
    limited = few | {"minutes": 206 / 60, "steps": STEPS}
    assert "Done: 6 steps" in run_to(tmp_path / "run", tiny_config(training=limited))[1]  # it had scored twice
    assert "Done: 7 steps" in run_to(tmp_path / "run", tiny_config(training=few | {"minutes": 100.0, "steps": 7}))[1]


@given(st.lists(st.floats(0.01, 5), min_size=30, max_size=60), st.floats(1, 20))
def test_the_end_is_within_a_step_of_the_budget(steps: list[float], seconds: float) -> None:
    """Or two, where steps become slower."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "time", clock)
        time = Budget(seconds / 60, 0.0)
        taken: list[float] = []
        for step in steps:
            assert time.over == (time.to_save >= time.seconds)
            if time.over:
                break
            with time.counting():
                assert not time.look(False, CPU)
                assert time.share == pytest.approx(min(1, sum(taken) / seconds))
                clock.now += step
            taken.append(step)
            time.end_step()
    if time.over:
        assert sum(taken[:-2]) < seconds
        assert sum(taken) + taken[-2:][0] >= seconds * (1 - 1e-9)
    else:
        assert sum(taken) < seconds + taken[-1]


def test_a_stop_after_the_time_leaves_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(budget, "time", clock)
    time = Budget(1.0, 0.0)
    with time.counting():
        clock.now += 70.0
        assert time.look(True, CPU)
    assert time.to_save < 60
    again = Budget(1.0, time.to_save)
    assert not again.over
    with again.counting():
        clock.now += 1.0
        assert not again.look(False, CPU)
        assert again.last


def test_a_wait_beyond_the_time_ends_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand at their end in the last step, not beyond it, where learning rates would be negative."""
    clock, recipe = Clock(), TrainingConfig(steps=100, minutes=1.0, lr_cooldown=0.5)
    monkeypatch.setattr(budget, "time", clock)
    time = Budget(recipe.minutes, 20.0)
    with time.counting():
        clock.now += 70.0  # for clips
        assert not time.look(False, CPU)
    assert (time.share, time.last) == (1.0, True)
    assert recipe.rate(recipe.position(5, time.share)) == 0.0


def test_rank_0_has_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = [(False, 0.25), (True, 0.75), (False, 0.5)]
    shared: list[torch.Tensor] = []

    def answers(reduce: Callable[[torch.Tensor], torch.Tensor]) -> list[tuple[bool, float]]:
        monkeypatch.setattr(distributed, "world_size", lambda: 3)
        monkeypatch.setattr(distributed, "all_reduce_mean", reduce)
        found = []
        for rank, (flag, value) in enumerate(ranks):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            found.append(distributed.any_process_and_first(flag, value, CPU))
        return found

    answers(lambda own: shared.append(own) or own)
    assert answers(lambda own: torch.stack(shared).mean(dim=0)) == [(True, pytest.approx(0.25))] * 3
    monkeypatch.undo()
    assert distributed.any_process_and_first(False, 0.5, torch.device("meta")) == (False, 0.5)  # without a wait


@given(st.integers(0, 100), st.floats(0, 1))
def test_schedules_in_steps_stretch_over_the_run(step: int, share: float) -> None:
    recipe = TrainingConfig(steps=100, minutes=3.0, reconstruction=2.0, reconstruction_half_life=50)
    done = max(step / 100, share)
    assert recipe.reconstruction_weight(recipe.position(step, share)) == pytest.approx(2 * 0.25**done)
    assert recipe.losses == "adversarial losses and L1 x 2 (halved every 50% of the run)"


@pytest.mark.parametrize("terminal", [False, True])
def test_the_bar_is_in_minutes(tmp_path: Path, clock: Clock, terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
    time = Budget(4.0, 90.0)
    with TrainingLog(Run(tmp_path), console, 10, 1000, time) as log, time.counting():
        clock.now += 6.0
        log.advance(12)
        log.losses(12, {"loss/reconstruction": 0.25}, 10.0, 0.0, time.left)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"1\.6/4 min", said) if terminal else said.startswith("step 12 | L1 0.250")
    assert terminal or said.endswith("| 2 min left\n")
