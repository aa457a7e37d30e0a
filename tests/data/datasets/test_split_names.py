"""Names of splits in people's spellings: what is held out is never trained on, and what is unclear is refused."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from trivd.data.datasets.folder import find_videos
from trivd.data.datasets.split_names import split_of
from trivd.data.listing import Listing, ListingSource
from trivd.data.splits import Split
from trivd.runtime.errors import TrivdError


def touch(root: Path, folders: Sequence[str], count: int = 4) -> Path:
    """Empty files named as videos in each of the folders."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.mp4").touch()
    return root


def folders_of(found: Listing, *splits: Split) -> set[str]:
    """The folders whose videos are in these splits."""
    return {str(Path(entry.name).parent) for entry in found.entries if entry.split in splits}


@pytest.mark.parametrize(
    ("train", "held_out", "split"),
    [
        ("train", "validation", "validation"),
        ("train", "val", "validation"),
        ("Train", "Val", "validation"),
        ("TRAIN", "TEST", "test"),
        ("training", "testing", "test"),
        ("Training", "Validation", "validation"),
        ("train", "valid", "validation"),
        ("train", "validate", "validation"),
        ("train", "dev", "validation"),
        ("train", "eval", "validation"),
        ("train", "held-out", "validation"),
        ("train", "Hold_Out", "validation"),
        ("trainval", "test", "test"),
        ("train_set", "val_set", "validation"),
        ("TrainSet", "TestSet", "test"),
        ("trainset", "devset", "validation"),
        ("Train Videos", "Test Videos", "test"),
        ("training-data", "test-data", "test"),
        ("train2017", "val2017", "validation"),
        ("ucf_train", "ucf_test", "test"),
    ],
)
def test_spellings(tmp_path: Path, train: str, held_out: str, split: Split) -> None:
    names = {f"{train}/a", f"{train}/b"}, {f"{held_out}/a", f"{held_out}/b"}
    found = find_videos(touch(tmp_path, sorted(names[0] | names[1])), 0.1)
    assert found.classes == ("a", "b")
    assert folders_of(found, "train") == names[0]
    assert folders_of(found, split) == names[1]
    assert found.validation_share is None
    assert any(train in note and held_out in note for note in found.notes)


@pytest.mark.parametrize(
    "name", ["walk", "pretrain", "contest", "trainer", "latest", "train_test", "value", "training wheels test"]
)
def test_other_names_say_no_split(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize("train", ["train", "Training", "data/train"])
def test_train_alone_is_split_within(tmp_path: Path, train: str) -> None:
    touch(tmp_path, [f"{train}/a", f"{train}/b"])
    (tmp_path / train).with_name("labels").mkdir()
    ((tmp_path / train).with_name("labels") / "a.txt").touch()
    found = find_videos(tmp_path, 0.5)
    assert found.classes == ("a", "b")
    assert {entry.split for entry in found.entries} == {"train", "validation"}
    assert any("no held-out videos in" in note and Path(train).name in note for note in found.notes)


def test_an_empty_split_holds_out_nothing(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a", "train/b"])
    (tmp_path / "val").mkdir()
    found = find_videos(tmp_path, 0.5)
    assert found.classes == ("a", "b")
    assert {entry.split for entry in found.entries} == {"train", "validation"}
    assert "no held-out videos in train and val (validation)" in found.notes
    assert [str(skipped) for skipped in found.skipped] == ["skipped val: empty folder"]


@pytest.mark.parametrize("folders", [["test"], ["val/a", "val/b"], ["dev", "Test"]])
def test_held_out_videos_alone_are_not_trained_on(tmp_path: Path, folders: list[str]) -> None:
    found = find_videos(touch(tmp_path, folders), 0.1)
    assert not folders_of(found, "train")
    with pytest.raises(TrivdError, match=r"no usable video for the split 'train', all are for .*Move those"):
        ListingSource(found, "train", 32, 3, 2)


def test_an_empty_training_folder(tmp_path: Path) -> None:
    touch(tmp_path, ["val"])
    (tmp_path / "train").mkdir()
    with pytest.raises(TrivdError, match=r"'train', all are for validation.*1 empty folder"):
        ListingSource(find_videos(tmp_path, 0.1), "train", 32, 3, 2)


def test_two_spellings_of_one_split_are_one(tmp_path: Path) -> None:
    found = find_videos(touch(tmp_path, ["train/a", "Train/a", "val/a", "validation/b", "test/b"]), 0.1)
    assert found.classes == ("a", "b")
    assert folders_of(found, "train") == {"train/a", "Train/a"}
    assert folders_of(found, "validation") == {"val/a", "validation/b"}
    assert "split by the folders Train, train, val (validation), validation and test" in found.notes


def test_what_lies_beside_the_splits_is_left_out(tmp_path: Path) -> None:
    found = find_videos(touch(tmp_path, ["train/a", "val/a", "extra/d", "."]), 0.1)
    assert folders_of(found, "train", "validation", "test") == {"train/a", "val/a"}
    assert "skipped extra: beside train and val" in map(str, found.skipped)
    assert "skipped 0.mp4: beside train and val" in map(str, found.skipped)


@pytest.mark.parametrize(
    ("folders", "classes", "held_out"),
    [
        (["walk", "run", "test/walk", "test/run"], ("run", "walk"), {"test/walk", "test/run"}),
        ([".", "test"], (), {"test"}),
        (["a/train", "a/test", "b/train", "b/test"], ("a", "b"), {"a/test", "b/test"}),
        (["a/train", "a/test", "b/train"], ("a", "b"), {"a/test"}),
        (["data/train/a", "data/test/a"], ("a",), {"data/test/a"}),
        (["data/v2/train", "data/v2/val"], (), {"data/v2/val"}),
    ],
)
def test_held_out_folders_in_other_places(
    tmp_path: Path, folders: list[str], classes: tuple[str, ...], held_out: set[str]
) -> None:
    found = find_videos(touch(tmp_path, folders), 0.1)
    assert found.classes == classes
    assert folders_of(found, "validation", "test") == held_out
    assert folders_of(found, "train") == {str(Path(folder)) for folder in folders} - held_out


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["walk", "run", "test"], "holds test, run and walk, so it is unclear"),
        (["walk", "dev/a"], "holds dev and walk"),
        (["train_1", "train_2", "test"], "holds test, train_1 and train_2"),
        (
            ["fold1_train", "fold1_test", "fold2_train", "fold2_test"],
            "fold1_test, fold1_train, fold2_test and fold2_train",
        ),
        (["a/train", "a/test", "b"], "b has no folders of splits"),
        (["a/day1/train", "a/day1/test", "b"], "day1 holds test and train below the classes"),
    ],
)
def test_what_is_unclear_is_refused(tmp_path: Path, folders: list[str], said: str) -> None:
    with pytest.raises(TrivdError, match=re.escape(said)):
        find_videos(touch(tmp_path, folders), 0.1)


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (["bus", "car", "train"], "train"),
        (["test1", "test2"], "test1 and test2"),
        (["a/test", "a/day", "b"], "a/test"),
    ],
)
def test_classes_with_such_names_are_said(tmp_path: Path, folders: list[str], named: str) -> None:
    found = find_videos(touch(tmp_path, folders), 0.1)
    assert found.classes == tuple(sorted({folder.split("/")[0] for folder in folders}))
    assert f"taken for classes or parts of them, not for splits: {named}" in found.notes
