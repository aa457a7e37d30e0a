"""The larger of two sizes is trained where a machine makes its steps in time, and nowhere else."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from run_checks import DATA, Command, MakeConfig

from trivd.commands import train as command
from trivd.config import Config
from trivd.data.loader import Batch
from trivd.presets import preset
from trivd.runtime.errors import TrivdError
from trivd.training import trial
from trivd.training.run import Run
from trivd.training.trial import LEAST, STEPS, WARM_UPS, seconds_per_step

Choose = Callable[..., tuple[Config, str]]


@pytest.mark.parametrize(("seconds", "enough", "steps"), [(0.25, 0.5, STEPS), (0.5, 0.5, STEPS), (4.0, 0.5, 7)])
def test_the_pace_is_that_of_the_steps_after_the_first(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, seconds: float, enough: float, steps: int
) -> None:
    """Too slow ones end it soon: three of 4 s take longer than sixteen of 0.5 s may."""
    made: list[int] = []

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()

    def step(trainer: Any, updates: Sequence[Sequence[Batch]]) -> None:
        made.append(sum(len(batch.labels) for batches in updates for batch in batches))
        clock.now += 30.0 if len(made) <= WARM_UPS else seconds

    monkeypatch.setattr(trial, "time", clock)
    monkeypatch.setattr(trial.Trainer, "train_step", step)
    assert seconds_per_step(tiny_config(), DATA, enough) == seconds
    assert made == [4] * steps


@pytest.fixture
def choose(tmp_path: Path, trivd_command: Command, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """What `trivd train --preset quickstart` would train, and what it says, on a machine of some speed."""

    def run(seconds: float | None, *options: object, out: Path = tmp_path / "run") -> tuple[Config, str]:
        chosen: list[Config] = []

        def measured(config: Config, data: str, enough: float) -> float:
            assert seconds is not None, "it tried the larger model"
            assert (config, data, enough) == (preset("quickstart-large"), DATA, pytest.approx(240 / LEAST))
            return seconds

        monkeypatch.setattr(trial, "seconds_per_step", measured)
        monkeypatch.setattr(command, "train", lambda config, *_: not chosen.append(config))  # type: ignore[func-returns-value]
        status, said, error = trivd_command("train", DATA, "--preset", "quickstart", "--out", out, *options)
        assert status == 0, error
        return chosen[0], said

    return run


@pytest.mark.parametrize(("seconds", "size"), [(0.2, "larger"), (0.6, "smaller")])
def test_the_faster_machine_trains_the_larger_model(choose: Choose, seconds: float, size: str) -> None:
    config, said = choose(seconds)
    assert config == preset("quickstart-large" if size == "larger" else "quickstart")
    assert f"takes {seconds:.2f} s, and 500 must fit into 4 minutes: the {size} is trained." in said


def test_too_little_memory_for_the_larger_model_trains_the_smaller(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> float:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(trial, "seconds_per_step", fail)
    config, larger = tiny_config(), preset("quickstart-large")
    assert trial.fitting_size(config, larger, DATA, Run(tmp_path / "run"), Console(quiet=True)) == config


def test_settings_of_ones_own_are_taken_as_they_are(choose: Choose) -> None:
    config, said = choose(None, "--training.steps", 20)
    assert (config.model, config.training.steps) == (preset("quickstart").model, 20)
    assert not said


@pytest.mark.parametrize("name", ["quickstart", "quickstart-large"])
def test_a_run_keeps_the_size_that_it_began_with(choose: Choose, tmp_path: Path, name: str) -> None:
    with Run(tmp_path / "run").opened(preset(name), DATA):
        pass
    assert choose(None) == (preset(name), "")


def test_several_processes_do_not_try(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "started_processes", lambda: 2)
    assert choose(None) == (preset("quickstart"), "")


def test_a_folder_of_something_else_is_refused_before_the_trial(tmp_path: Path, choose: Choose) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises((AssertionError, TrivdError), match="not empty and holds no run"):
        choose(None, out=tmp_path)
