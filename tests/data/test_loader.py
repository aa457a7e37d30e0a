"""The training stream: each epoch complete, the same whatever the workers and wherever it was resumed."""

import errno
import itertools
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivd.config import DataConfig, ModelConfig
from trivd.data import prefetch
from trivd.data.clips import Clip, open_clips
from trivd.data.loader import Batch, TrainingStream, evaluation_batch, evaluation_numbers
from trivd.data.store.prepare import write_store
from trivd.runtime.errors import TrivdError


class Numbers:
    """Clips that hold a random number, with their index as label."""

    classes = ()
    fps = None
    summary = ()

    def __init__(self, length: int) -> None:
        self.evaluation_clips = length

    def __len__(self) -> int:
        return self.evaluation_clips

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return Clip(np.full((1, 1, 1, 1), rng.integers(256), np.uint8), index)

    def evaluation_clip(self, index: int) -> Clip:
        return Clip(np.zeros((1, 1, 1, 1), np.uint8), index)


class Failing(Numbers):
    """Clips of which all but the first few raise an error."""

    def __init__(self, error: Exception, sound: int) -> None:
        super().__init__(1000)
        self.error = error
        self.left = sound

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().training_clip(index, rng)


def take(
    count: int, dataset: object, batch_size: int = 4, *, start: int = 0, workers: int = 0, seed: int = 0
) -> list[Batch]:
    stream = TrainingStream(dataset, batch_size, seed, start, workers)  # type: ignore[arg-type]
    return list(itertools.islice(stream, count))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.video, b.video) and torch.equal(a.labels, b.labels) for a, b in zip(one, other, strict=True)
    )


@given(length=st.integers(1, 30), batch_size=st.integers(1, 9), seed=st.integers(0, 5))
@settings(max_examples=20)
def test_every_epoch_visits_all_in_another_order(length: int, batch_size: int, seed: int) -> None:
    batches = take(-(-3 * length // batch_size), Numbers(length), batch_size, seed=seed)
    labels = torch.cat([batch.labels for batch in batches]).tolist()
    epochs = [labels[first : first + length] for first in range(0, 3 * length, length)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert length < 8 or len(set(map(tuple, epochs))) == 3


@given(length=st.integers(1, 30), batch_size=st.integers(1, 9), stop=st.integers(0, 12))
@settings(max_examples=20)
def test_a_resumed_stream_goes_on_as_if_never_stopped(length: int, batch_size: int, stop: int) -> None:
    whole = take(stop + 4, Numbers(length), batch_size)
    assert same(take(4, Numbers(length), batch_size, start=stop * batch_size), whole[stop:])


def test_workers_change_nothing(action_folder: Path, tmp_path: Path) -> None:
    model = ModelConfig(resolution=32, conditioning_frames=2, predicted_frames=3)
    data = DataConfig()
    write_store(action_folder, tmp_path / "store", resolution=32, channels=3, data=data, workers=0, progress=None)
    folder, store = (open_clips(path, "train", data, model) for path in (action_folder, tmp_path / "store"))
    alone = take(6, folder)
    assert alone[0].video.shape == (4, 5, 32, 32, 3)
    assert (alone[0].video.dtype, alone[0].labels.dtype) == (torch.uint8, torch.int64)
    assert same(take(6, folder, workers=2), alone)
    assert same(take(6, store, workers=2), alone)
    assert same(take(3, folder, start=12, workers=2), alone[3:])


def test_seeds_differ() -> None:
    assert not same(take(3, Numbers(20)), take(3, Numbers(20), seed=1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sound", [0, 1, 9])  # clips, before the error: at the start, or on the way
def test_any_error_arrives(workers: int, sound: int) -> None:
    """Errors of the user arrive unchanged, others with their names, even one that cannot be pickled."""

    class LocalError(Exception):
        pass

    with pytest.raises(TrivdError, match=r"^cannot be read$"):
        take(9, Failing(TrivdError("cannot be read"), sound), workers=workers)
    for error in (LocalError("bad luck"), EOFError("bad luck"), OSError(errno.EMFILE, "bad luck")):
        said = rf"^Clip \d+ of the training data cannot be read: {type(error).__name__}: .*bad luck \(test_loader\.py"
        with pytest.raises(TrivdError, match=said):
            take(9, Failing(error, sound), workers=workers)
    with pytest.raises(MemoryError):  # of which the training says what would fit
        take(9, Failing(MemoryError(), sound), workers=workers)


class Growing(Numbers):
    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return Clip(np.zeros((1, 1, 1 + index % 7, 1), np.uint8), index)


def test_clips_of_other_sizes_than_the_first_are_an_error() -> None:
    with pytest.raises(TrivdError, match="A worker process failed: ValueError: could not broadcast"):
        take(9, Growing(20), workers=1)


class Tall(Numbers):
    """Clips of a thousand bytes."""

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return Clip(np.full((1, 1000, 1, 1), rng.integers(256), np.uint8), index)


@pytest.fixture
def small_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Shared memory of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only a user who may mount file systems can make a small one")
    monkeypatch.setattr(prefetch, "SHARED_MEMORY", folder)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def warned(workers: int, batch_size: int) -> list[str]:
    """The warnings of a stream, whose batches are the same as without workers."""
    said: list[str] = []
    stream = TrainingStream(Tall(99), batch_size, 0, 0, workers, warn=said.append)  # type: ignore[arg-type]
    assert same(list(itertools.islice(stream, 9)), take(9, Tall(99), batch_size))
    return said


def test_fewer_batches_are_read_ahead_where_shared_memory_is_small(small_memory: Path) -> None:
    assert warned(workers=2, batch_size=16) == []  # four of 16,000 bytes
    assert shutil.disk_usage(small_memory).used == 0  # nothing is left behind
    for batch_size, room in ((17, 3), (30, 2), (60, 1)):
        (said,) = warned(workers=2, batch_size=batch_size)
        assert f"({small_memory}) has room for {room} of the 4 batches" in said
    with pytest.raises(TrivdError, match=r"a batch takes 0\.1 MiB, and 0\.1 MiB are free\..*--data\.workers 0"):
        take(1, Tall(99), 70, workers=1)


def test_processes_of_one_machine_share_its_memory(small_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert "room for 2 of the 4 batches" in warned(workers=2, batch_size=16)[0]


def test_memory_that_another_process_takes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = os.posix_fallocate

    def late(file: int, offset: int, size: int) -> None:
        if size > 2 * 4000:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", late)
    assert "room for 2 of the 4 batches" in warned(workers=2, batch_size=4)[0]
    with pytest.raises(TrivdError, match="is too small"):
        take(1, Tall(99), 9, workers=1)


def test_without_shared_memory_files_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SHARED_MEMORY", tmp_path / "none")
    assert "clips are passed on in files in" in warned(workers=1, batch_size=4)[0]


def test_workers_need_not_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, and by default from Python 3.14 on."""
    context = multiprocessing.get_context("forkserver")
    monkeypatch.setattr(multiprocessing, "get_context", lambda: context)
    assert same(take(5, Numbers(20), workers=2), take(5, Numbers(20)))


def test_a_long_wait_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Numbers):
        def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
            if multiprocessing.parent_process() is not None:
                time.sleep(0.5)
            return super().training_clip(index, rng)

    monkeypatch.setattr(prefetch, "LOOK_SECONDS", 0.125)
    monkeypatch.setattr(prefetch, "STALLED_SECONDS", 0.25)
    said: list[str] = []
    next(iter(TrainingStream(Slow(9), 1, 0, 0, 1, warn=said.append)))  # type: ignore[arg-type]
    assert [sentence.partition(":")[0] for sentence in said] == ["No clips have come for 0 seconds"]


def test_an_empty_data_set_is_an_error_not_an_endless_wait() -> None:
    with pytest.raises(TrivdError, match="no clip"):
        take(1, Numbers(0))


@given(length=st.integers(1, 50), clips=st.integers(1, 60))
@settings(max_examples=30)
def test_evaluation_clips_are_spread_over_the_split(length: int, clips: int) -> None:
    numbers = evaluation_numbers(Numbers(length), clips)  # type: ignore[arg-type]
    assert len(numbers) == len(set(numbers)) == min(length, clips)
    assert numbers == sorted(numbers)
    steps = np.diff(numbers)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
    assert evaluation_batch(Numbers(length), numbers).labels.tolist() == numbers  # type: ignore[arg-type]
