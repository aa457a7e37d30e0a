"""Folders of videos: splits, classes, what is skipped and why; nothing in them is touched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import numbered_frames, write_video

from trivd.data.datasets.folder import find_videos
from trivd.data.listing import ListingSource
from trivd.data.splits import hashed_splits
from trivd.runtime.errors import TrivdError

WEIZMANN = Path(__file__).parents[4] / "shared" / "data" / "weizmann"


def open_folder(root: Path, split: str = "all", span: int = 8) -> ListingSource:
    found = find_videos(root, 0.3)
    if split == "all":
        found = replace(
            found, entries=tuple(replace(entry, split="train") for entry in found.entries), validation_share=None
        )
    return ListingSource(found, "train" if split == "all" else split, 32, 3, span)  # type: ignore[arg-type]


def state(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [root, *root.rglob("*")]}


def test_sub_folders_are_classes_and_reading_changes_nothing(action_folder: Path) -> None:
    before = state(action_folder)
    source = open_folder(action_folder)
    assert source.classes == ("run", "walk")
    assert source.names == ["run/1.mp4", "run/3.mp4", "run/5.mp4", "walk/0.mp4", "walk/2.mp4", "walk/4.mp4"]
    assert source.labels == [0, 0, 0, 1, 1, 1]
    assert source.lengths == [21, 23, 25, 20, 22, 24]
    frames = source.read(0, 2, 5, 3)
    assert frames.shape == (5, 32, 43, 3)
    assert state(action_folder) == before


def test_split_folders_share_their_classes(tmp_path: Path) -> None:
    for name in ("train/a/1.mp4", "train/b/1.mp4", "val/b/2.mp4", "val/c/2.mp4", "extra/d/3.mp4"):
        write_video(tmp_path / name, numbered_frames(10))
    train, validation = open_folder(tmp_path, "train"), open_folder(tmp_path, "validation")
    assert train.classes == validation.classes == ("a", "b", "c")
    assert train.names == ["train/a/1.mp4", "train/b/1.mp4"]
    assert validation.names == ["val/b/2.mp4", "val/c/2.mp4"]
    assert validation.labels == [1, 2]
    assert "skipped extra: beside train and val" in train.summary


def test_hashed_splits_are_disjoint_complete_and_stable(action_folder: Path) -> None:
    train, validation = open_folder(action_folder, "train"), open_folder(action_folder, "validation")
    assert not set(train.names) & set(validation.names)
    assert sorted(train.names + validation.names) == open_folder(action_folder).names
    moved = action_folder.rename(action_folder.with_name("elsewhere"))
    assert open_folder(moved, "validation").names == validation.names


@given(count=st.integers(2, 60), share=st.floats(0.01, 0.99), start=st.integers(0, 1000))
def test_both_splits_have_a_video_where_there_are_two(count: int, share: float, start: int) -> None:
    names = [str(n) for n in range(start, start + count)]
    assert set(hashed_splits(names, share)) == {"train", "validation"}


def test_hashed_splits_keep_to_the_share() -> None:
    names = [str(n) for n in range(4000)]
    splits = dict(zip(names, hashed_splits(names, 0.2), strict=True))
    assert abs(list(splits.values()).count("validation") / 4000 - 0.2) < 0.03
    assert hashed_splits(names[::2], 0.2) == [splits[name] for name in names[::2]]


def test_videos_without_sub_folders_have_no_labels(tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", numbered_frames(10))
    source = open_folder(tmp_path)
    assert source.classes == ()
    assert source.labels == [0, 0, 0]


def test_videos_beside_class_folders_take_the_labels_away(action_folder: Path) -> None:
    write_video(action_folder / "loose.mp4", numbered_frames(10))
    source = open_folder(action_folder)
    assert source.classes == ()
    assert set(source.labels) == {0}
    assert len(source.names) == 7
    assert "no labels: 1 video beside the folders run, walk" in source.summary


def test_classes_are_the_first_level_however_deep_videos_lie(tmp_path: Path) -> None:
    write_video(tmp_path / "a" / "day1" / "cam2" / "x.mp4", numbered_frames(10))
    write_video(tmp_path / "b" / "y.mp4", numbered_frames(10))
    source = open_folder(tmp_path)
    assert source.classes == ("a", "b")
    assert source.names == ["a/day1/cam2/x.mp4", "b/y.mp4"]


def test_image_sequences_are_videos_not_classes(tmp_path: Path) -> None:
    import av

    for folder in ("seq1", "seq2", "grouped/seq"):
        (tmp_path / folder).mkdir(parents=True)
        for number, array in enumerate(numbered_frames(9)):
            av.VideoFrame.from_ndarray(array, "rgb24").to_image().save(tmp_path / folder / f"{number}.png")
    assert open_folder(tmp_path / "seq1").lengths == [9]
    assert open_folder(tmp_path / "grouped").classes == ()
    (tmp_path / "all").mkdir()
    (tmp_path / "grouped").rename(tmp_path / "all" / "class")
    labelled = open_folder(tmp_path / "all")
    assert labelled.classes == ("class",)
    assert labelled.names == ["class/seq"]


def test_what_cannot_be_used_is_named_with_its_reason(action_folder: Path, tmp_path: Path) -> None:
    walk = action_folder / "walk"
    write_video(walk / "short.mp4", numbered_frames(5))
    (walk / "zero.mp4").touch()
    (walk / "text.mp4").write_text("no video\n" * 100)
    (walk / "notes.txt").write_text("notes")
    (walk / ".DS_Store").write_text("hidden")
    whole = write_video(tmp_path / "whole.mkv", numbered_frames(40)).read_bytes()
    (walk / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (action_folder / "nothing").mkdir()
    (walk / "round").symlink_to(action_folder)
    source = open_folder(action_folder, span=8)
    assert len(source.names) == 6
    assert source.classes == ("run", "walk")
    skipped = {line for line in source.summary if line.startswith("skipped walk/") or "nothing" in line}
    assert {line for line in skipped if "cut.mkv" not in line} == {
        "skipped walk/short.mp4: too short (5 of 8 frames)",
        "skipped walk/zero.mp4: zero bytes",
        "skipped walk/text.mp4: not a video, or truncated",
        "skipped walk/notes.txt: not a video",
        "skipped walk/round: link to a folder that holds it",
        "skipped nothing: empty folder",
    }
    assert any("cut.mkv: truncated" in line for line in skipped)
    assert source.summary[0].endswith(": 6 videos, 135 frames, 14 windows of 8 frames, 2 classes: run, walk")
    assert source.summary[-1].startswith("skipped 7: ")


def test_nothing_usable_says_why_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match="is not a folder"):
        open_folder(tmp_path / "missing")
    with pytest.raises(TrivdError, match="no usable video"):
        open_folder(tmp_path)
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", numbered_frames(5))
    (tmp_path / "zero.mp4").touch()
    with pytest.raises(TrivdError, match=r"3 too short, 1 zero bytes.*at least 8 frames"):
        open_folder(tmp_path)


def test_real_videos() -> None:
    if not WEIZMANN.is_dir():
        pytest.skip(f"needs the development data in {WEIZMANN}")
    found = find_videos(WEIZMANN, 0.1)
    train, validation = ListingSource(found, "train", 64, 3, 16), ListingSource(found, "validation", 64, 3, 16)
    assert len(train.names) + len(validation.names) == 56
    assert len(train.classes) == 4
    assert train.classes == validation.classes
    frames = train.read(0, 20, 16, 1)
    assert frames.shape == (16, 64, 64, 3)
    assert np.array_equal(frames, train.read(0, 0, 36, 1)[20:])
