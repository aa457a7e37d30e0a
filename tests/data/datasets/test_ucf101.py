"""UCF-101: the class folders, the three folds' lists, and lists that are wrong or missing."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_files import numbered_frames, write_video

from trivd.data.datasets.ucf101 import find_ucf101, is_ucf101
from trivd.data.formats.decode import UnreadableVideo
from trivd.data.listing import ListingSource
from trivd.runtime.errors import TrivdError

LISTS = {
    "classInd.txt": "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 Archery\r\n",  # not alphabetical
    "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\nArchery/v_Archery_g08_c02.avi 3\n",
    "testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\n",
    "trainlist02.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi 2\n",
    "testlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\nArchery/v_Archery_g08_c02.avi\n",
}
VIDEOS = (
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
    "Archery/v_Archery_g08_c02.avi",
    "HandstandPushups/v_HandStandPushups_g01_c01.avi",  # the data set's own spelling
)


def write_lists(folder: Path, changes: Mapping[str, str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (LISTS | dict(changes or {})).items():
        (folder / name).write_bytes(text.encode())


def make(root: Path, changes: Mapping[str, str] | None = None) -> Path:
    """The layout with empty files: a listing opens none."""
    write_lists(root / "ucfTrainTestlist", changes)
    for video in VIDEOS:
        (root / "UCF-101" / video).parent.mkdir(parents=True, exist_ok=True)
        (root / "UCF-101" / video).touch()
    return root


def test_real_videos_of_each_fold(tmp_path: Path) -> None:
    make(tmp_path)
    for number, video in enumerate(VIDEOS):
        write_video(tmp_path / "UCF-101" / video, numbered_frames(10 + number))
    found = find_ucf101(tmp_path, 1)
    train, test = ListingSource(found, "train", 32, 3, 8), ListingSource(found, "test", 32, 3, 8)
    assert train.classes == test.classes == ("ApplyEyeMakeup", "HandstandPushups", "Archery")
    assert (train.names, train.labels, train.lengths) == ([f"UCF-101/{v}" for v in VIDEOS[:2]], [0, 2], [10, 11])
    assert (test.names, test.labels, test.lengths) == ([f"UCF-101/{VIDEOS[2]}"], [1], [12])
    assert train.read(0, 1, 4, 2).shape == (4, 32, 43, 3)
    assert "fold 1" in train.summary
    assert "test: 1 of 1 listed videos (3,783 in the data set)" in train.summary
    other = find_ucf101(tmp_path, 2)
    assert ListingSource(other, "train", 32, 3, 8).labels == [1]
    assert ListingSource(other, "test", 32, 3, 8).labels == [0, 2]
    found.entries[0].video.path.unlink()
    with pytest.raises(UnreadableVideo, match="missing"):
        train.read(0, 0, 8, 1)


@pytest.mark.parametrize("place", ["UCF-101/..", "UCF-101", "UCF-101/ucfTrainTestlist", "."])
def test_lists_beside_or_among_the_class_folders(tmp_path: Path, place: str) -> None:
    """Each place of the lists, opened from the folder of the class folders."""
    make(tmp_path)
    (tmp_path / "ucfTrainTestlist").rename(tmp_path / "lists")
    write_lists(tmp_path / place)
    shutil.rmtree(tmp_path / "lists")
    root = tmp_path / "UCF-101"
    assert is_ucf101(root)
    found = find_ucf101(root, 1)
    assert [entry.name for entry in found.entries] == list(VIDEOS)
    assert found.skipped == ()


def test_lists_beside_another_folder_are_not_its_own(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "my-videos").mkdir()
    assert is_ucf101(tmp_path)
    assert is_ucf101(tmp_path / "UCF-101")
    assert not is_ucf101(tmp_path / "my-videos")


def test_what_is_missing_or_unlisted_is_counted(tmp_path: Path) -> None:
    make(tmp_path)
    archery = tmp_path / "UCF-101" / "Archery"
    (archery / "v_Archery_g08_c02.avi").rename(archery / "v_Archery_g09_c01.avi")
    (archery / "notes.txt").touch()
    (archery / ".hidden").touch()
    (tmp_path / "UCF-101" / "Bowling").mkdir()
    shutil.rmtree(tmp_path / "UCF-101" / "ApplyEyeMakeup")
    found = find_ucf101(tmp_path, 1)
    assert [entry.name for entry in found.entries] == [f"UCF-101/{VIDEOS[2]}"]
    assert {str(one) for one in found.skipped} == {
        f"skipped UCF-101/{VIDEOS[0]}: missing (train)",
        f"skipped UCF-101/{VIDEOS[1]}: missing (train)",
        "skipped UCF-101/Archery/v_Archery_g09_c01.avi: in no list",
        "skipped UCF-101/Archery/notes.txt: not a video",
        "skipped UCF-101/Bowling: not a class of classInd.txt",
    }
    assert "train: 0 of 2 listed videos (9,537 in the data set)" in found.notes


@pytest.mark.parametrize("name", ["classInd.txt", "trainlist03.txt", "testlist03.txt"])
def test_a_missing_list_is_named_with_the_places_looked_in(tmp_path: Path, name: str) -> None:
    make(tmp_path, {"trainlist03.txt": "", "testlist03.txt": ""})
    (tmp_path / "ucfTrainTestlist" / name).unlink()
    with pytest.raises(TrivdError, match=rf"{name} is missing.*{tmp_path}, {tmp_path}/ucfTrainTestlist"):
        find_ucf101(tmp_path, 3)


@pytest.mark.parametrize(
    ("name", "text", "line", "why"),
    [
        ("classInd.txt", "0 A\n", 1, "expected '1 NAME'"),
        ("classInd.txt", "1 A\n3 B\n", 2, "expected '2 NAME'"),
        ("classInd.txt", "1 A\n\n2 A\n", 3, "with a new name"),
        ("classInd.txt", "1 ../A\n", 1, "expected '1 NAME'"),
        ("trainlist01.txt", "Archery/v_Archery_g08_c02.avi 3\nArchery\n", 2, "expected CLASS/FILE.avi"),
        ("trainlist01.txt", "Archery/../../secret.avi 3\n", 1, "expected CLASS/FILE.avi"),
        ("trainlist01.txt", "../Archery/v.avi 3\n", 1, "expected CLASS/FILE.avi"),
        ("testlist01.txt", "/etc/passwd.avi\n", 1, "expected CLASS/FILE.avi"),
        ("testlist01.txt", "Bowling/v_Bowling_g01_c01.avi\n", 1, "classInd.txt has no class Bowling"),
        ("trainlist01.txt", "Archery/v_Archery_g08_c02.avi 2\n", 1, "Archery has the number 3 in classInd.txt, not 2"),
        ("testlist01.txt", "Archery/v_Archery_g08_c02.avi\n", 1, "Archery/v_Archery_g08_c02.avi is listed before"),
    ],
)
def test_wrong_lists_are_refused_by_line(tmp_path: Path, name: str, text: str, line: int, why: str) -> None:
    make(tmp_path, {name: text})
    with pytest.raises(TrivdError, match=rf"{name}, line {line}: .*{why}"):
        find_ucf101(tmp_path, 1)


def test_lists_that_are_no_text_or_empty(tmp_path: Path) -> None:
    make(tmp_path, {"classInd.txt": "\n"})
    with pytest.raises(TrivdError, match=r"classInd\.txt lists no class"):
        find_ucf101(tmp_path, 1)
    (tmp_path / "ucfTrainTestlist" / "classInd.txt").write_bytes(b"1 A\n2 \xff\n")
    with pytest.raises(TrivdError, match=r"classInd\.txt, line 2: it is not UTF-8"):
        find_ucf101(tmp_path, 1)


@given(name=st.sampled_from(sorted(LISTS)), lines=st.lists(st.binary(max_size=40), max_size=5))
@settings(max_examples=50)
def test_any_list_gives_videos_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, lines: list[bytes]
) -> None:
    root = make(tmp_path_factory.getbasetemp() / "ucf")
    (root / "ucfTrainTestlist" / name).write_bytes(LISTS[name].encode() + b"\n".join(lines))
    with suppress(TrivdError):
        find_ucf101(root, 1)
