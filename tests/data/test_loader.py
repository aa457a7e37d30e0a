"""The training stream: each epoch complete, the same whatever the workers and wherever it was resumed."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivd.config import DataConfig, ModelConfig
from trivd.data.clips import Clip, open_clips
from trivd.data.loader import Batch, TrainingStream, evaluation_batch, evaluation_numbers
from trivd.data.prepare import write_store
from trivd.errors import TrivdError


class Numbers:
    """Clips that show their index, and a random number."""

    classes = ()
    report = ()

    def __init__(self, length: int) -> None:
        self.evaluation_clips = length

    def __len__(self) -> int:
        return self.evaluation_clips

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return Clip(np.full((1, 1, 1, 1), rng.integers(256), np.uint8), index)

    def evaluation_clip(self, index: int) -> Clip:
        return Clip(np.zeros((1, 1, 1, 1), np.uint8), index)


class Broken(Numbers):
    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        raise TrivdError("cannot be read")


def take(
    count: int, dataset: object, batch_size: int = 4, start: int = 0, workers: int = 0, seed: int = 0
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
    write_store(action_folder, tmp_path / "store", 32, 3, data, workers=0, progress=None)
    folder, store = (open_clips(path, "train", data, model) for path in (action_folder, tmp_path / "store"))
    alone = take(6, folder)
    assert alone[0].video.shape == (4, 5, 32, 32, 3)
    assert (alone[0].video.dtype, alone[0].labels.dtype) == (torch.uint8, torch.int64)
    assert same(take(6, folder, workers=2), alone)
    assert same(take(6, store, workers=2), alone)
    assert same(take(3, folder, start=12, workers=2), alone[3:])


def test_seeds_differ() -> None:
    assert not same(take(3, Numbers(20)), take(3, Numbers(20), seed=1))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_users_errors_arrive_as_they_are(workers: int) -> None:
    with pytest.raises(TrivdError, match=r"^cannot be read$"):
        take(1, Broken(3), workers=workers)


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
