"""Any data source as a dataset of PyTorch: the clips of `open_clips` as floats, also in the workers of a DataLoader."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import trivd
from trivd.config import DataConfig
from trivd.data.clips import ClipShape, open_clips
from trivd.data.dataset import VideoDataset
from trivd.data.store.prepare import write_store

SHAPE = ClipShape(frames=5, resolution=32, image_channels=3)
Make = Callable[..., VideoDataset]


@pytest.fixture(params=["moving-digits", "folder", "store"])
def make(request: pytest.FixtureRequest, action_folder: Path, tmp_path: Path) -> Make:
    """A factory of data sets of each kind, and where they lie."""
    data: str | Path = action_folder if request.param == "folder" else request.param
    if request.param == "store":
        data = tmp_path / "store"
        write_store(action_folder, data, resolution=32, channels=3, data=DataConfig(), workers=0, progress=None)

    def factory(**settings: object) -> VideoDataset:
        return trivd.clips(data, frames=5, resolution=32, **settings)  # type: ignore[arg-type]

    factory.data = data  # type: ignore[attr-defined]
    return factory


def test_items_are_those_of_an_evaluation(make: Make) -> None:
    clips = open_clips(make.data, "validation", DataConfig(stride=2), SHAPE)  # type: ignore[attr-defined]
    dataset = make(split="validation", stride=2)
    assert len(dataset) == clips.evaluation_clips > 0
    assert dataset.classes == clips.classes
    for index in range(min(len(dataset), 2)):
        video, label = dataset[index]
        expected = clips.evaluation_clip(index)
        assert (video.dtype, tuple(video.shape)) == (torch.float32, (5, 3, 32, 32))
        np.testing.assert_allclose((video.movedim(1, -1).numpy() + 1) * 127.5, expected.video, atol=1e-4)
        assert label == expected.label
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    with pytest.raises(IndexError):
        dataset[-1]


def test_a_seed_fixes_windows_and_crops(make: Make) -> None:
    clips = open_clips(make.data, "train", DataConfig(), SHAPE)  # type: ignore[attr-defined]
    dataset = make(seed=7)
    assert len(dataset) == len(clips)
    expected = clips.training_clip(1, np.random.default_rng((7, 1))).video
    for _ in range(2):
        np.testing.assert_allclose((dataset[1][0].movedim(1, -1).numpy() + 1) * 127.5, expected, atol=1e-4)


def test_without_a_seed_windows_follow_torchs_random_numbers(action_folder: Path) -> None:
    dataset = trivd.clips(action_folder, frames=5, resolution=32)
    torch.manual_seed(1)
    first = [dataset[0][0] for _ in range(8)]
    assert any(not torch.equal(first[0], other) for other in first[1:])
    torch.manual_seed(1)
    assert torch.equal(dataset[0][0], first[0])


def test_workers_of_a_loader_give_the_same_batches(make: Make) -> None:
    dataset = make(split="validation")
    copy = pickle.loads(pickle.dumps(dataset))
    short = torch.utils.data.Subset(copy, range(min(3, len(copy))))
    # Forked, not started anew: that would import torch in the worker.
    batches = list(DataLoader(short, batch_size=2, num_workers=1, multiprocessing_context="fork"))
    video, labels = batches[0]
    assert video.shape[1:] == (5, 3, 32, 32)
    assert torch.equal(video[0], dataset[0][0])
    assert labels[0] == dataset[0][1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "training"}, "split is training; choose train, validation or test"),
        ({"channels": 4}, "channels is 4; choose 1 or 3"),
        ({"frames": 0}, "frames is 0; it must be at least 1"),
        ({"resolution": 0}, "resolution is 0; it must be at least 1 pixel"),
        ({"seed": -1}, "seed is -1"),
        ({"stride": 0}, "data.stride is 0"),
    ],
)
def test_what_cannot_be_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(trivd.TrivdError, match=message):
        trivd.clips("moving-digits", **settings)  # type: ignore[arg-type]
