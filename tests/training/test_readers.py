"""The processes that read clips for a training: what they cannot read, and how they end."""

import os
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from run_checks import MakeConfig, run_to

from trivd.data.loader import Batch
from trivd.errors import TrivdError
from trivd.training.faults import NAMED, UnreadableClips
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
    """As by a system that has no memory left; the same command goes on."""
    config = tiny_config(training={"steps": 8}, data={"workers": 1})
    before, train_step = set(children()), Trainer.train_step

    def step(trainer: Trainer, updates: list[list[Batch]]) -> object:
        if trainer.step == 5:
            for reader in set(children()) - before:
                os.kill(reader, signal.SIGKILL)
        return train_step(trainer, updates)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        message = r"reads clips was ended from outside.*the last good checkpoint is step [46] .*\(now 1\)"
        with pytest.raises(TrivdError, match=message):
            run_to(tmp_path / "run", config)
    assert run_to(tmp_path / "run", config)[0]


@pytest.mark.parametrize(
    "said",
    [
        "unable to write to file </torch_12_34_5>: No space left on device (28)",
        "unable to mmap 4096 bytes from file </torch_12_34_5>: No space left on device (28)",
        "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out "
        "of shared memory. Please try to raise your shared memory limit.",
    ],
)
def test_shared_memory_that_is_full_is_said(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def step(trainer: Trainer, updates: list[list[Batch]]) -> object:
        raise RuntimeError(said)

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(TrivdError, match=r"shared memory \(/dev/shm\).*full.*--data\.workers 0"):
        run_to(tmp_path / "run", tiny_config())


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
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    try:
        clips = UnreadableClips(0.05, 7)  # counted by both before a stop
        clips.update([batch([f"own {rank}", "shared"]), batch(["again"] * rank)])
        assert clips.total() == 7 + 2 + 3
        assert clips.new() == ["own 0", "shared", "own 1", "again"]
        clips.update([batch(["shared"])])
        clips.note([f"{rank} {i}" for i in range(2 * NAMED)])
        assert clips.total() == 7 + 2 + 3 + 2
        assert clips.new() == [f"0 {i}" for i in range(NAMED - 4)]
    finally:
        torch.distributed.destroy_process_group()


def test_those_of_all_processes_are_counted_and_said(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(count_in_one_of_two, (tmp_path,), nprocs=2, start_method="forkserver")
