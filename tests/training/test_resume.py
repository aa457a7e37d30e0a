"""Stopping and going on: bit for bit the run that was never stopped; nothing of the user's is overwritten."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from run_checks import DATA, Command, MakeConfig, assert_same_run, assert_same_state, run_to, state

from trivd.config import to_dict
from trivd.data.loader import Batch
from trivd.runtime.errors import TrivdError
from trivd.training import stops
from trivd.training.loop import train
from trivd.training.objectives import Losses
from trivd.training.run import Run
from trivd.training.step import Trainer

TrainStep = Callable[[Trainer, Sequence[Sequence[Batch]]], Losses]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[tuple[int, bytes]]]:
    """A function that makes a run end itself with SIGTERM after a step; it returns what is trained on, as it comes."""
    original: TrainStep = Trainer.train_step

    def install(last: int | None) -> list[tuple[int, bytes]]:
        seen: list[tuple[int, bytes]] = []

        def step(trainer: Trainer, updates: Sequence[Sequence[Batch]]) -> Losses:
            seen.extend((trainer.step, batch.video.numpy().tobytes()) for batches in updates for batch in batches)
            losses = original(trainer, updates)
            if trainer.step == last:
                os.kill(os.getpid(), signal.SIGTERM)
            return losses

        monkeypatch.setattr(Trainer, "train_step", step)
        return seen

    return install


VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "everything": {
        "model": {"classes": 10, "unit": "conv_lstm", "image_channels": 1},
        "discriminator": {"decomposition": "dvd_gan_fp", "head": "projection"},
        "data": {"workers": 1, "digits_clips": 5},  # epochs end in the middle of a batch
        "training": {
            "batch_size": 4,
            "microbatch": 2,
            "discriminator_updates": 1,
            "reconstruction": 30.0,
            "reconstruction_samples": 2,
            "precision": "bfloat16",
            "beta1": 0.5,
            "ema_halflife": 100,
            "lecam": 0.3,
            "augment": ["cutout", "colour"],
            "diversity": 1.0,
            "lr_cooldown": 0.7,
            "curriculum": 0.7,
            "curriculum_start": 2,
            "r1": 0.1,
            "r1_every": 2,
        },
    },
}


# Before and after the moving average has started.
@pytest.mark.parametrize(("variant", "first"), [("default", 1), ("default", 3), ("everything", 3)])
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path,
    tiny_config: MakeConfig,
    stop_after: Callable[[int | None], list[tuple[int, bytes]]],
    variant: str,
    first: int,
) -> None:
    config = tiny_config(**VARIANTS[variant])
    whole = stop_after(None)
    assert run_to(tmp_path / "whole", config)[0]
    before = stop_after(first)
    complete, said = run_to(tmp_path / "parts", config)
    assert not complete
    assert f"Stopped at step {first}; all is saved. Repeat the command to resume." in said
    after = stop_after(None)
    complete, said = run_to(tmp_path / "parts", config)
    assert complete
    assert f"Resuming {tmp_path / 'parts'} from step {first}." in said
    assert next(step for step, _ in after) == first
    assert before + after == whole  # the same clips in the same order
    assert_same_run(tmp_path / "parts", tmp_path / "whole", 4)
    names = {name.partition("/")[0] for name in state(tmp_path / "parts", 4)}
    assert names == {"generator", "discriminators", "ema"} | ({"lecam"} if config.training.lecam else set())
    assert any(name.endswith("exp_avg_sq") for name in state(tmp_path / "parts", 4))


@pytest.mark.parametrize(("looks", "step"), [(5, 1), (6, 1), (7, 2)])  # with the next clips in hand or without
def test_a_stop_between_two_looks_is_saved_too(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, looks: int, step: int
) -> None:
    class LateRequest(stops.StopRequest):
        """Noticed after so many looks, and not before."""

        asked = 0

        @property
        def received(self) -> bool:
            self.asked += 1
            return self.asked > looks

        @received.setter
        def received(self, value: bool) -> None: ...

    monkeypatch.setattr(stops, "StopRequest", LateRequest)
    config = tiny_config(training={"checkpoint_every": 100})
    complete, said = run_to(tmp_path / "run", config)
    assert not complete
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-{step:08d}"]
    assert f"Stopped at step {step}; all is saved." in said


def options(settings: dict[str, Any], prefix: str = "--") -> list[str]:
    """The settings of a run, as JSON values, as options of the command line."""
    words: list[str] = []
    for name, value in settings.items():
        option = prefix + name.replace("_", "-")
        if isinstance(value, dict):
            words += options(value, f"{option}.")
        elif not isinstance(value, bool):
            words += [option, *map(str, value if isinstance(value, list) else [value])]
    return words


def test_real_signals_stop_the_command_and_the_same_command_resumes(
    tmp_path: Path, tiny_config: MakeConfig, trivd_command: Command
) -> None:
    """To the whole process group, as Ctrl-C, `timeout` and batch systems send them, with a process that reads clips."""
    config = tiny_config(
        training={"steps": 30, "checkpoint_every": 1000, "sample_every": 1000, "evaluate_every": 1000},
        data={"workers": 1},
    )
    command = ["train", DATA, *options(to_dict(config))]
    parts = tmp_path / "parts"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trivd", *command, "--out", str(parts)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def steps_made() -> int:
        return max((row["step"] for row in Run(parts).log_rows()), default=0)

    for number in (signal.SIGTERM, signal.SIGINT):
        target = steps_made() + 3
        process = start()
        deadline = time.monotonic() + 600
        while steps_made() < target and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 3, err
        assert f"Stopped at step {steps_made()}; all is saved. Repeat the command to resume." in out
        assert steps_made() < 30
        assert "Traceback" not in err
    status, out, _ = trivd_command(*command, "--out", parts)
    assert status == 0
    assert "Resuming " in out
    assert trivd_command(*command, "--out", tmp_path / "whole")[0] == 0
    assert_same_run(parts, tmp_path / "whole", 30)


def test_a_finished_run_says_so_and_stays_as_it_is(copied: Path, tiny_config: MakeConfig) -> None:
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in copied.rglob("*") if path.is_file()}

    before = content()
    complete, said = run_to(copied, tiny_config())
    assert complete
    assert f"{copied} is complete: 4 steps." in said
    assert content() == before


def test_a_longer_training_is_allowed(copied: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    longer = tiny_config(training={"steps": 6})
    assert run_to(copied, longer)[0]
    assert run_to(tmp_path / "whole", longer)[0]
    assert_same_state(copied, tmp_path / "whole", 6)
    assert Run(copied).read()[0].training.steps == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"generator_lr": 1e-3}},
        {"model": {"unit": "conv_gru"}},
        {"discriminator": {"head": "projection"}},
        {"data": {"digits": 1}},
        {"evaluation": {"clips": 3}},
    ],
)
def test_other_settings_are_refused_by_name(
    copied: Path, tiny_config: MakeConfig, changes: dict[str, dict[str, Any]]
) -> None:
    ((section, settings),) = changes.items()
    (setting,) = settings
    there = getattr(getattr(tiny_config(), section), setting)
    with pytest.raises(TrivdError, match=rf"holds a run with other settings: {section}\.{setting} \(there {there}\);"):
        run_to(copied, tiny_config(**changes))
    assert Run(copied).read()[0] == tiny_config()


def test_settings_that_compute_nothing_may_change(copied: Path, trained_run: Path, tiny_config: MakeConfig) -> None:
    shutil.rmtree(copied / "checkpoints" / "step-00000004")
    quieter = tiny_config(training={"log_every": 3, "checkpoint_every": 4}, data={"workers": 1})
    assert run_to(copied, quieter)[0]
    assert_same_state(copied, trained_run, 4)


def test_a_folder_of_something_else_is_refused(tmp_path: Path, tiny_config: MakeConfig) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(TrivdError, match="not empty and holds no run"):
        run_to(tmp_path, tiny_config())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_bad_data_leave_no_folder_behind(tmp_path: Path, tiny_config: MakeConfig) -> None:
    with pytest.raises(TrivdError, match="is not a folder of videos"):
        train(tiny_config(), str(tmp_path / "nowhere"), Run(tmp_path / "run"), Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()


def test_divergence_names_the_last_good_checkpoint(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: TrainStep = Trainer.train_step

    def poisoned(trainer: Trainer, updates: Sequence[Sequence[Batch]]) -> Losses:
        if trainer.step == 3:
            with torch.no_grad():
                trainer.discriminators["crop"].score.bias.fill_(float("inf"))
        return original(trainer, updates)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    with pytest.raises(TrivdError, match=r"discriminator loss is inf at step 4\..* checkpoint is step 2 in .*--out"):
        run_to(tmp_path / "run", tiny_config())
    good = state(tmp_path / "run", 2)
    assert all(value.isfinite().all() for name, value in good.items() if "standing" not in name)


def test_the_log_survives_half_a_line(copied: Path) -> None:
    run = Run(copied)
    rows = run.log_rows()
    with run.log_file.open("a") as file:
        file.write(json.dumps({"step": 4, "loss/discriminator/crop": 9.0}) + '\n{"step": 5, "lo')
    again = run.log_rows()
    assert len(again) == len(rows)
    assert {"step": 4, "loss/discriminator/crop": 9.0} in again  # made again: the last counts
