"""Checkpoints: two are kept, and what is damaged, or made to look sound, is passed over."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from run_checks import MakeConfig, assert_same_run, run_to
from safetensors.torch import load_file, save_file
from torch import Tensor

from trivd.errors import TrivdError
from trivd.training import checkpoint as checkpoint_module
from trivd.training.checkpoint import Progress


def test_two_checkpoints_are_kept(trained_run: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    assert sorted(path.name for path in (trained_run / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    run_to(tmp_path / "run", tiny_config(training={"checkpoint_every": 1}))
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000003", "step-00000004"]


def flip_a_byte(checkpoint: Path) -> None:
    file = checkpoint / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


def cut_off(checkpoint: Path) -> None:
    file = checkpoint / "state.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def empty_progress(checkpoint: Path) -> None:
    (checkpoint / "progress.json").write_text("")


def other_progress(checkpoint: Path) -> None:
    (checkpoint / "progress.json").write_text('{"epoch": 3}')


def flip_a_digit(checkpoint: Path) -> None:
    file = checkpoint / "progress.json"
    file.write_text(file.read_text().replace('"step": 4', '"step": 5'))


def remove_state(checkpoint: Path) -> None:
    (checkpoint / "state.safetensors").unlink()


def forge(checkpoint: Path, change: Callable[[dict[str, Tensor]], object], **progress: Any) -> None:
    """Change a checkpoint and make its checksum fit."""
    state, said = checkpoint / "state.safetensors", checkpoint / "progress.json"
    tensors = load_file(state)
    change(tensors)
    save_file(tensors, state)
    values = json.loads(said.read_text()) | progress
    digest = checkpoint_module._digest(state.read_bytes(), Progress(**values))
    said.write_text(json.dumps(asdict(Progress(**(values | {"sha256": digest})))))


def moment(tensors: dict[str, Tensor], kind: str) -> str:
    return next(name for name in tensors if name.endswith(f"/{kind}"))


def shorten_a_moment(checkpoint: Path) -> None:
    """The fused optimizer would read behind its end."""
    forge(checkpoint, lambda tensors: tensors.update({moment(tensors, "exp_avg"): torch.zeros(1)}))


def remove_a_moment(checkpoint: Path) -> None:
    forge(checkpoint, lambda tensors: tensors.pop(moment(tensors, "exp_avg_sq")))


def count_steps_in_a_row(checkpoint: Path) -> None:
    forge(checkpoint, lambda tensors: tensors.update({moment(tensors, "step"): torch.zeros(3)}))


def remove_an_average(checkpoint: Path) -> None:
    forge(checkpoint, lambda tensors: tensors.pop(next(name for name in tensors if name.startswith("ema/"))))


def reshape_a_weight(checkpoint: Path) -> None:
    forge(checkpoint, lambda tensors: tensors.update({"generator/weights/first.bias": torch.zeros(1)}))


def say_a_step_in_words(checkpoint: Path) -> None:
    forge(checkpoint, lambda tensors: None, step="four")


FORGERIES = [
    shorten_a_moment,
    remove_a_moment,
    count_steps_in_a_row,
    remove_an_average,
    reshape_a_weight,
    say_a_step_in_words,
]
DAMAGES = [*FORGERIES, flip_a_byte, cut_off, empty_progress, other_progress, flip_a_digit, remove_state]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(
    copied: Path, trained_run: Path, tiny_config: MakeConfig, damage: Callable[[Path], None]
) -> None:
    newest = copied / "checkpoints" / "step-00000004"
    damage(newest)
    complete, said = run_to(copied, tiny_config())
    assert complete
    assert f"{newest} is damaged and was passed over: " in said
    assert f"Going on with {copied} from step 2." in said
    assert_same_run(copied, trained_run, 4)
    assert "is complete" in run_to(copied, tiny_config())[1]  # a sound checkpoint stands in its place


def test_without_a_sound_checkpoint_nothing_is_started_over(copied: Path, tiny_config: MakeConfig) -> None:
    for checkpoint in (copied / "checkpoints").iterdir():
        flip_a_byte(checkpoint)
    with pytest.raises(TrivdError, match=r"No checkpoint in .* can be read.*checksum.*Choose another --out"):
        run_to(copied, tiny_config())
    assert len(list((copied / "checkpoints").iterdir())) == 2


def test_half_a_checkpoint_from_a_crash_is_not_seen(copied: Path, tiny_config: MakeConfig) -> None:
    (copied / "checkpoints" / ".step-00000006.77.tmp").mkdir()
    assert "is complete: 4 steps" in run_to(copied, tiny_config())[1]
