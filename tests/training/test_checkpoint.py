"""Checkpoints: two are kept, and what is damaged, or made to look sound, is passed over."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_checks import MakeConfig, assert_same_run, run_to
from safetensors.torch import load_file, save_file
from torch import Tensor

from trivd.runtime.errors import TrivdError
from trivd.training import checkpoint as checkpoint_module
from trivd.training.checkpoint import Progress, load_latest, save_checkpoint
from trivd.training.step import Trainer


def test_two_checkpoints_are_kept(trained_run: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    assert sorted(path.name for path in (trained_run / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    run_to(tmp_path / "run", tiny_config(training={"checkpoint_every": 1}))
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000003", "step-00000004"]


def test_damaged_ones_count_for_nothing(tmp_path: Path, make_trainer: Callable[..., Trainer]) -> None:
    """Two later ones are damaged: what is written now is kept, and so is the one before it."""
    trainer = make_trainer()
    for step in (1000, 2000, 3000):
        path = save_checkpoint(tmp_path, trainer, Progress(step, 0, 0.0, None))
        if step > 1000:
            flip_a_byte(path)
            path.rename(tmp_path / f"kept-{path.name}")
    for path in tmp_path.glob("kept-*"):  # as a process leaves them that is killed before it has removed the oldest
        path.rename(tmp_path / path.name.removeprefix("kept-"))
    assert load_latest(tmp_path, trainer)[0].step == 1000  # type: ignore[union-attr]
    save_checkpoint(tmp_path, trainer, Progress(1500, 0, 0.0, None))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-0000{n}00" for n in (10, 15, 20, 30)]
    progress, damaged = load_latest(tmp_path, trainer)
    assert progress is not None
    assert (progress.step, len(damaged)) == (1500, 2)


def test_a_checkpoint_is_on_the_disk_before_older_ones_go(
    tmp_path: Path, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files before their names, and names before what they replace is removed: a power cut leaves one that is whole."""
    events: list[str] = []

    def noted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            target = arguments[-1]
            path = Path(os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target)
            events.append(f"{name} {re.sub(r'[.][0-9]+[.]tmp', '.tmp', str(path.relative_to(tmp_path)))}")
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    trainer = make_trainer()
    for step in (1, 2):
        save_checkpoint(tmp_path, trainer, Progress(step, 0, 0.0, None))
    for module, name in ((os, "fsync"), (os, "replace"), (checkpoint_module.shutil, "rmtree")):
        noted(module, name)
    save_checkpoint(tmp_path, trainer, Progress(3, 0, 0.0, None))
    folder = ".step-00000003.tmp"
    written = [
        [f"fsync {folder}/.{file}.tmp", f"replace {folder}/{file}", f"fsync {folder}"]
        for file in ("state.safetensors", "progress.json")
    ]
    moved = ["replace step-00000003", "fsync .", f"rmtree {folder}", "rmtree step-00000001"]
    assert events == [*written[0], *written[1], *moved]


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
    said.write_text(json.dumps(values | {"sha256": checkpoint_module._digest(state.read_bytes(), values)}))


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
    assert f"Resuming {copied} from step 2." in said
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
