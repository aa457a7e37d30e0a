"""Stores: the folder's pixels, once; never half written, never over something else, never silently damaged."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from video_files import numbered_frames, write_video

from trivd.data import store as store_module
from trivd.data.folder import find_videos
from trivd.data.listing import ListedVideos
from trivd.data.report import ScanReport
from trivd.data.store import StoreSource, is_store, verify_store, write_store
from trivd.errors import TrivdError


def make(root: Path, destination: Path, channels: int = 3) -> ScanReport:
    return write_store(root, destination, 32, channels, 0.3, progress=None)  # type: ignore[arg-type]


@pytest.fixture
def store(action_folder: Path, tmp_path: Path) -> Path:
    make(action_folder, tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_store_holds_the_folder_pixel_for_pixel(action_folder: Path, tmp_path: Path, channels: int) -> None:
    before = sorted(action_folder.rglob("*"))
    report = make(action_folder, tmp_path / "new" / "store", channels)
    assert len(report.lengths) == 6
    for split in ("train", "validation"):
        stored = StoreSource(tmp_path / "new" / "store", split, 8)
        folder = ListedVideos(find_videos(action_folder, 0.3), split, 32, channels, 8)
        assert (stored.classes, stored.names, stored.labels) == (folder.classes, folder.names, folder.labels)
        assert stored.lengths == folder.lengths
        for video, length in enumerate(stored.lengths):
            assert np.array_equal(stored.read(video, 0, length, 1), folder.read(video, 0, length, 1))
            assert np.array_equal(stored.read(video, 3, 4, 5), folder.read(video, 3, 4, 5))
    assert sorted(action_folder.rglob("*")) == before
    verify_store(tmp_path / "new" / "store")


def test_the_size_is_said_before_the_start(action_folder: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    write_store(action_folder, tmp_path / "store", 32, 3, 0.3, console)
    size = (tmp_path / "store" / "frames.u8").stat().st_size
    assert f"Decoding 6 videos into {size / 1e6:.1f} MB" in console.file.getvalue()  # type: ignore[attr-defined]


def test_frames_are_a_read_only_view(store: Path) -> None:
    frames = StoreSource(store, "train", 8).read(0, 0, 4, 1)
    assert not frames.flags.writeable


def test_a_source_travels_without_its_pixels(store: Path) -> None:
    source = StoreSource(store, "train", 8)
    expected = source.read(0, 0, 8, 1)
    parcel = pickle.dumps(source)
    assert len(parcel) < 5000
    assert np.array_equal(pickle.loads(parcel).read(0, 0, 8, 1), expected)


def test_unreadable_videos_are_left_out_and_named(action_folder: Path, tmp_path: Path) -> None:
    (action_folder / "run" / "zero.mp4").touch()
    frames = numbered_frames(30)
    damaged = write_video(action_folder / "run" / "2_damaged.avi", frames, codec="mjpeg")
    contents = bytearray(damaged.read_bytes())
    contents[len(contents) // 2 : len(contents) // 2 + 600] = bytes(600)
    damaged.write_bytes(contents)
    report = make(action_folder, tmp_path / "store")
    assert "skipped run/zero.mp4: zero bytes" in report.lines()
    verify_store(tmp_path / "store")  # whatever became of the damaged one, what follows it lies where the index says


def test_short_videos_are_reported(store: Path) -> None:
    source = StoreSource(store, "train", 22)
    assert all(length >= 22 for length in source.lengths)
    assert any("too short (20 of 22 frames)" in line or "(21 of 22" in line for line in source.summary)
    with pytest.raises(TrivdError, match="no usable video"):
        StoreSource(store, "train", 100)


def test_nothing_is_overwritten_and_the_source_stays_clean(action_folder: Path, store: Path) -> None:
    contents = (store / "frames.u8").read_bytes()
    with pytest.raises(TrivdError, match="not overwritten"):
        make(action_folder, store)
    assert (store / "frames.u8").read_bytes() == contents
    with pytest.raises(TrivdError, match="within the videos' folder"):
        make(action_folder, action_folder / "store")
    with pytest.raises(TrivdError, match="is not a folder"):
        make(action_folder / "missing", store.with_name("other"))


def test_an_interruption_leaves_nothing(action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(store_module, "_append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(action_folder, tmp_path / "store")
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "zero.mp4").touch()
    with pytest.raises(TrivdError, match="Skipped: 1 zero bytes"):
        make(tmp_path / "videos", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_noticed_before_the_start(
    action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(TrivdError, match=r"needs 0\.0 GB but .* has 0\.0 GB left"):
        make(action_folder, tmp_path / "store")


def test_damage_is_named(store: Path) -> None:
    frames, index = store / "frames.u8", store / "index.json"
    contents, text = bytearray(frames.read_bytes()), index.read_text()

    contents[5] ^= 1
    frames.write_bytes(contents)
    with pytest.raises(TrivdError, match=r"checksums differ for run/1\.mp4;"):
        verify_store(store)

    frames.write_bytes(contents[:-7])
    with pytest.raises(TrivdError, match=r"frames\.u8 is damaged: it has"):
        StoreSource(store, "train", 8)

    for broken in (
        text[:100],
        "[]",
        json.dumps({"format": "trivd-store"}),
        text.replace('"version": 1', '"version": 9'),
    ):
        index.write_text(broken)
        with pytest.raises(TrivdError, match=r"index\.json is damaged"):
            StoreSource(store, "train", 8)

    index.write_text(text)
    frames.unlink()
    with pytest.raises(TrivdError, match=r"frames\.u8 is damaged: it is missing"):
        StoreSource(store, "train", 8)


def test_an_index_that_contradicts_itself(store: Path) -> None:
    values = json.loads((store / "index.json").read_text())
    values["videos"][1]["offset"] += 1
    (store / "index.json").write_text(json.dumps(values))
    with pytest.raises(TrivdError, match="contradicts"):
        StoreSource(store, "train", 8)


def test_what_is_a_store(store: Path, action_folder: Path, tmp_path: Path) -> None:
    assert is_store(store)
    assert not is_store(action_folder)
    (store / "index.json").unlink()
    assert is_store(store)  # damaged
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.json").write_text("{}")
    assert not is_store(tmp_path / "other")
