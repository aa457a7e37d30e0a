"""Clips of the model's size from any data path."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trivd.config import DataConfig, ModelConfig
from trivd.data.clips import VideoClips, open_clips
from trivd.data.source import span_of
from trivd.data.splits import Split
from trivd.data.store.prepare import write_store
from trivd.runtime.errors import TrivdError

SMALL = ModelConfig(resolution=32, conditioning_frames=2, predicted_frames=3)
DATA = DataConfig(validation_share=0.3)


class MadeUp:
    """Videos whose pixels tell where they come from: video, frame, row, column."""

    split: Split = "train"
    classes = ("a", "b")
    fps = None
    summary = ("made up",)

    def __init__(self, lengths: list[int], height: int, width: int) -> None:
        self.lengths = lengths
        self.labels = [number % 2 for number in range(len(lengths))]
        self.names = [str(number) for number in range(len(lengths))]
        self.height, self.width = height, width

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        assert start >= 0
        assert start + (count - 1) * stride < self.lengths[video]
        frames = np.empty((count, self.height, self.width, 3), np.uint8)
        frames[..., 0] = (start + stride * np.arange(count))[:, None, None]
        frames[..., 1] = np.arange(self.height)[:, None]
        frames[..., 2] = np.arange(self.width)
        return frames


@given(
    lengths=st.lists(st.integers(9, 40), min_size=1, max_size=4),
    extra=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    stride=st.integers(1, 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=30)
def test_windows_and_crops(lengths: list[int], extra: tuple[int, int], stride: int, seed: int) -> None:
    source = MadeUp(lengths, 16 + extra[0], 16 + extra[1])
    clips = VideoClips(source, 5, stride, 16)  # type: ignore[arg-type]
    span = span_of(5, stride)
    assert len(clips) == clips.evaluation_clips == sum(length // span for length in lengths)
    index = 0
    for video, length in enumerate(lengths):
        for window in range(length // span):
            fixed = clips.evaluation_clip(index)
            assert fixed.video.shape == (5, 16, 16, 3)
            assert fixed.video[:, 0, 0, 0].tolist() == [window * span + stride * t for t in range(5)]
            assert fixed.video[0, 0, 0, 1:].tolist() == [extra[0] // 2, extra[1] // 2]
            assert fixed.label == source.labels[video]
            random = clips.training_clip(index, np.random.default_rng(seed))
            assert random.video.shape == (5, 16, 16, 3)
            assert random.label == source.labels[video]
            index += 1
    with pytest.raises(IndexError):
        clips.evaluation_clip(index)


def test_training_reaches_every_start_and_crop() -> None:
    clips = VideoClips(MadeUp([9], 17, 18), 5, 1, 16)  # type: ignore[arg-type]
    seen = {tuple(clips.training_clip(0, np.random.default_rng(seed)).video[0, 0, 0].tolist()) for seed in range(300)}
    assert seen == {(start, top, left) for start in range(5) for top in range(2) for left in range(3)}


def test_moving_digits_by_name() -> None:
    for split, length in (("train", 50), ("validation", 10_000)):
        clips = open_clips("moving-digits", split, DataConfig(digits_clips=50), SMALL)  # type: ignore[arg-type]
        assert len(clips) == clips.evaluation_clips == length
        assert len(clips.classes) == 10
        first = clips.evaluation_clip(0)
        assert first.video.shape == (5, 32, 32, 3)
        assert np.array_equal(clips.training_clip(0, np.random.default_rng(0)).video, first.video)


def test_a_folder_and_its_store_give_the_same_clips(action_folder: Path, tmp_path: Path) -> None:
    write_store(action_folder, tmp_path / "store", resolution=32, channels=3, data=DATA, workers=0, progress=None)
    folder = open_clips(action_folder, "train", DATA, SMALL)
    store = open_clips(str(tmp_path / "store"), "train", DATA, SMALL)
    assert len(folder) == len(store) > 0
    for index in range(len(folder)):
        assert np.array_equal(folder.evaluation_clip(index).video, store.evaluation_clip(index).video)
        one, other = (clips.training_clip(index, np.random.default_rng(index)) for clips in (folder, store))
        assert one.label == other.label
        assert np.array_equal(one.video, other.video)
    assert one.video.flags.owndata


def test_data_that_do_not_fit_the_model(action_folder: Path, tmp_path: Path) -> None:
    write_store(action_folder, tmp_path / "store", resolution=32, channels=3, data=DATA, workers=0, progress=None)
    with pytest.raises(
        TrivdError, match=r"resolution 32 but the model has 64; prepare the videos again with --resolution 64"
    ):
        open_clips(tmp_path / "store", "train", DATA, ModelConfig(conditioning_frames=2, predicted_frames=3))
    grey = ModelConfig(resolution=32, image_channels=1, conditioning_frames=2, predicted_frames=3)
    with pytest.raises(TrivdError, match=r"--image-channels 1, or train with --model\.image-channels 3"):
        open_clips(tmp_path / "store", "train", DATA, grey)
    three = ModelConfig(resolution=32, conditioning_frames=2, predicted_frames=3, classes=3)
    for path in (action_folder, tmp_path / "store"):
        with pytest.raises(TrivdError, match=r"--model\.classes 2"):
            open_clips(path, "train", DATA, three)
    with pytest.raises(TrivdError, match="moving-digits"):
        open_clips(tmp_path / "missing", "train", DATA, SMALL)
    long = ModelConfig(resolution=32, conditioning_frames=20, predicted_frames=20)
    with pytest.raises(TrivdError, match="too short"):
        open_clips(action_folder, "train", DATA, long)
