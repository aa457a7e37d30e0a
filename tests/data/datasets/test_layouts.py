"""Recognition of data sets, explicit layouts, and the paper's balanced split."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_files import write_bair
from video_files import numbered_frames, write_video

from trivd.config import DataConfig, Layout, ModelConfig
from trivd.data.clips import open_clips
from trivd.data.datasets.layouts import find
from trivd.data.splits import SPLITS, Split, balanced_splits
from trivd.runtime.errors import TrivdError

SMALL = ModelConfig(resolution=32, conditioning_frames=1, predicted_frames=2)


def make(root: Path, layout: str) -> Path:
    """A small data set of a layout, with real videos."""
    if layout == "bair":
        return write_bair(root, {"train/traj_0_to_9.tfrecords": range(10), "test/traj_0_to_0.tfrecords": [10]}, 3)
    if layout == "ucf101":
        (root / "ucfTrainTestlist").mkdir(parents=True)
        (root / "ucfTrainTestlist" / "classInd.txt").write_text("1 A\n")
        for name, video in (("train", "v_A_g02_c01"), ("test", "v_A_g01_c01")):
            (root / "ucfTrainTestlist" / f"{name}list01.txt").write_text(f"A/{video}.avi\n")
            write_video(root / "UCF-101" / "A" / f"{video}.avi", numbered_frames(4))
    elif layout == "kinetics600":
        for split in ("train", "val"):
            name = f"{split:_<11}"
            (root / split).mkdir(parents=True)
            rows = f"label,youtube_id,time_start,time_end,split\nA,{name},1,2,{split}\n"
            (root / f"{split}.csv").write_text(rows)
            write_video(root / split / f"{name}_000001_000002.mp4", numbered_frames(4))
    else:
        for number in range(4):
            write_video(root / "A" / f"{number}.mp4", numbered_frames(4))
    return root


@pytest.mark.parametrize("layout", ["bair", "ucf101", "kinetics600", "folder"])
def test_each_layout_is_recognised_and_gives_clips(tmp_path: Path, layout: Layout) -> None:
    root = make(tmp_path / "data", layout)
    found = find(root, DataConfig())
    assert found.notes[0] == f"layout {layout}"
    assert found == find(root, DataConfig(layout=layout))
    train = open_clips(root, "train", DataConfig(), SMALL)
    held_out = open_clips(root, "validation", DataConfig(), SMALL)
    assert f"layout {layout}" in train.summary
    assert held_out.split == ("test" if layout in ("bair", "ucf101") else "validation")
    assert train.evaluation_clip(0).video.shape == (3, 32, 32, 3)


def test_kinetics_by_its_names_alone(tmp_path: Path) -> None:
    make(tmp_path, "kinetics600")
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    assert find(tmp_path, DataConfig()).notes[0] == "layout kinetics600"


@pytest.mark.parametrize("layout", ["bair", "ucf101", "kinetics600"])
def test_a_layout_that_does_not_fit(tmp_path: Path, layout: Layout) -> None:
    make(tmp_path, "folder")
    with pytest.raises(TrivdError, match=str(tmp_path)):
        find(tmp_path, DataConfig(layout=layout))


def test_options_reach_the_layouts(tmp_path: Path) -> None:
    bair, ucf101 = make(tmp_path / "bair", "bair"), make(tmp_path / "ucf101", "ucf101")
    assert "camera image_main" in find(bair, DataConfig(bair_camera="image_main")).notes
    with pytest.raises(TrivdError, match=r"trainlist02\.txt is missing"):
        find(ucf101, DataConfig(ucf101_fold=2))
    with pytest.raises(TrivdError, match="is not a folder"):
        find(tmp_path / "nothing", DataConfig())


def test_folders_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    make(tmp_path, "kinetics600")
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(TrivdError, match=f"{tmp_path} cannot be read: Permission denied"):
        find(tmp_path, DataConfig(layout="kinetics600"))


def test_the_papers_balanced_split_of_bair() -> None:
    splits: list[Split] = ["train"] * 43_264 + ["test"] * 256
    new = balanced_splits(splits)
    assert Counter(new) == {"train": 30_284, "test": 13_236}
    assert new == ["train"] * 30_284 + ["test"] * 13_236


@given(splits=st.lists(st.sampled_from(SPLITS)))
def test_balanced_splits(splits: list[Split]) -> None:
    new = balanced_splits(splits)
    was_train = [after for before, after in zip(splits, new, strict=True) if before == "train"]
    kept = was_train.count("train")
    assert set(new) <= {"train", "test"}
    assert was_train == ["train"] * kept + ["test"] * (len(was_train) - kept)
    assert new.count("train") == kept
    assert 10 * kept <= 7 * len(was_train) < 10 * (kept + 1)  # floor(0.7 n)


def test_the_balanced_split_of_a_data_set(tmp_path: Path) -> None:
    root = make(tmp_path, "bair")
    data = DataConfig(balanced_split=True)
    found = find(root, data)
    assert [entry.split for entry in found.entries] == ["train"] * 7 + ["test"] * 4
    assert "balanced split: 7 train, 4 test" in found.notes
    assert [replace(entry, split="train") for entry in found.entries] == [
        replace(entry, split="train") for entry in find(root, DataConfig()).entries
    ]
    clips = {split: open_clips(root, split, data, SMALL) for split in ("train", "validation", "test")}
    assert {split: len(each) for split, each in clips.items()} == {"train": 7, "validation": 4, "test": 4}
