"""The processes that read clips for a training: what they cannot read, and how they end."""

import os
import shutil
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from run_checks import MakeConfig, assert_same_run, run_to

from trivd.data.clips import Clip, DigitClips
from trivd.data.loader import Batch
from trivd.evaluation.readable import MOST_NAMED
from trivd.runtime.errors import TrivdError
from trivd.training.checkpoint import list_checkpoints
from trivd.training.faults import UnreadableClips
from trivd.training.run import Run
from trivd.training.step import Trainer


def children() -> list[int]:
    """Processes that this one has started."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):  # it has ended, or is no process
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(folder.name))
    return found


def test_a_reader_that_is_killed_is_said(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a system that has no memory left; what was trained is saved, and the same command goes on."""
    config = tiny_config(training={"steps": 8, "checkpoint_every": 100}, data={"workers": 1})
    before, train_step = set(children()), Trainer.train_step

    def step(trainer: Trainer, updates: list[list[Batch]]) -> object:
        if trainer.step == 5:
            for reader in set(children()) - before:
                os.kill(reader, signal.SIGKILL)
        return train_step(trainer, updates)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        message = r"was ended from outside \(it ended by SIGKILL\).*the last good checkpoint is step [567] .*\(now 1\)"
        with pytest.raises(TrivdError, match=message):
            run_to(tmp_path / "run", config)
    assert run_to(tmp_path / "run", config)[0]


def test_shared_memory_that_is_too_small_is_said_before_anything_is_computed(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 5 * 32 * 32 * 3 - 1))
    config = tiny_config(data={"workers": 1})
    with pytest.raises(TrivdError, match=r"shared memory \(/dev/shm\).*too small.*--data\.workers 0"):
        run_to(tmp_path / "run", config)
    assert Run(tmp_path / "run").log_rows() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 5 * 32 * 32 * 3))
    complete, said = run_to(tmp_path / "run", config)
    assert complete
    assert "room for 1 of the 2 batches" in said


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_reading_saves_what_was_trained(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """The last checkpoint may be hours old; the same command goes on from where it ended."""
    config = tiny_config(training={"steps": 6, "checkpoint_every": 100}, data={"workers": workers})
    assert run_to(tmp_path / "whole", config)[0]
    training_clip, seen = DigitClips.training_clip, []

    def broken(clips: DigitClips, index: int, rng: np.random.Generator) -> Clip:
        seen.append(index)
        if len(seen) > 2 * 2 * 2 + 2 * 2 * 3:  # standing statistics, and three steps
            raise ValueError("bad luck")
        return training_clip(clips, index, rng)

    with monkeypatch.context() as patch:
        patch.setattr(DigitClips, "training_clip", broken)
        with pytest.raises(TrivdError, match="cannot be read: ValueError: bad luck"):
            run_to(tmp_path / "run", config)
    (saved,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    complete, said = run_to(tmp_path / "run", config)
    assert complete
    assert f"from step {int(saved.name.removeprefix('step-'))}." in said
    assert_same_run(tmp_path / "run", tmp_path / "whole", 6)


def test_memory_that_runs_out_at_the_start_is_said(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("trivd.training.loop.Trainer", none)
    with pytest.raises(TrivdError, match=r"Out of memory; what .*run holds is kept\. A step takes"):
        run_to(tmp_path / "run", tiny_config())


def batch(unreadable: list[str]) -> Batch:
    return Batch(torch.zeros(4, 1, 1, 1, 3), torch.zeros(4), tuple(unreadable))


def count_in_one_of_two(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2, timeout=timedelta(seconds=600)
    )
    try:
        clips = UnreadableClips(0.05, 7)  # counted by both before a stop
        clips.update([batch([f"own {rank}", "shared"]), batch(["again"] * rank)])
        assert clips.total() == 7 + 2 + 3
        assert clips.new() == ["own 0", "shared", "own 1", "again"]
        clips.update([batch(["shared"])])
        clips.note([f"{rank} {i}" for i in range(2 * MOST_NAMED)])
        assert clips.total() == 7 + 2 + 3 + 2
        assert clips.new() == [f"0 {i}" for i in range(MOST_NAMED - 4)]
    finally:
        torch.distributed.destroy_process_group()


def test_those_of_all_processes_are_counted_and_said(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(count_in_one_of_two, (tmp_path,), nprocs=2, start_method="forkserver")
