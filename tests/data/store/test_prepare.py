"""Preparing stores: what is refused and said, and nothing overwritten."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_checks import contents, make
from rich.console import Console
from video_files import numbered_frames

from trivd.config import DataConfig
from trivd.data.datasets.folder import find_videos
from trivd.data.listing import ListingSource
from trivd.data.store import prepare as prepare_module
from trivd.data.store import shards as shards_module
from trivd.data.store.prepare import write_store
from trivd.data.store.shards import ShardJob, write_shard
from trivd.data.store.source import StoreSource, verify_store
from trivd.runtime.errors import TrivdError

DATA = DataConfig(validation_share=0.3)


def test_nothing_is_overwritten_and_the_source_stays_clean(action_folder: Path, tmp_path: Path) -> None:
    source = contents(action_folder)
    store = tmp_path / "store"
    make(action_folder, store)
    before = contents(store)
    for settings in ({"validation_share": 0.4}, {"layout": "folder"}):
        with pytest.raises(
            TrivdError, match=rf"exists and is not overwritten: .* \({next(iter(settings))}.*new folder"
        ):
            make(action_folder, store, **settings)
    with pytest.raises(TrivdError, match=r"settings \(resolution, image_channels\)"):
        write_store(action_folder, store, resolution=16, channels=1, data=DATA, workers=0, progress=None)
    os.utime(action_folder / "run" / "1.mp4")
    (store / "index.json").rename(tmp_path / "index.json")  # an unfinished one is safe, too
    with pytest.raises(TrivdError, match=r"settings \(videos\)"):
        make(action_folder, store)
    (tmp_path / "index.json").rename(store / "index.json")
    assert contents(store) == before

    with pytest.raises(TrivdError, match="within the videos' folder"):
        make(action_folder, action_folder / "store")
    with pytest.raises(TrivdError, match="is not a folder"):
        make(action_folder / "missing", tmp_path / "other")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").touch()
    with pytest.raises(TrivdError, match="notes exists and is not overwritten; name a new folder"):
        make(action_folder, tmp_path / "notes")
    with pytest.raises(TrivdError, match="--workers is -1"):
        make(action_folder, tmp_path / "other", workers=-1)
    assert contents(action_folder) == source


def test_a_store_keeps_the_splits_that_the_balanced_one_is_made_of(action_folder: Path, tmp_path: Path) -> None:
    make(action_folder, tmp_path / "one")
    make(action_folder, tmp_path / "other", balanced_split=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "zero.mp4").touch()
    with pytest.raises(TrivdError, match="Skipped: 1 zero bytes"):
        make(tmp_path / "videos", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_size_is_said_before_the_start(action_folder: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    write_store(action_folder, tmp_path / "store", resolution=32, channels=3, data=DATA, workers=0, progress=console)
    videos = json.loads((tmp_path / "store" / "index.json").read_text())["videos"]
    rows = zip(videos["split"], videos["frames"], videos["height"], videos["width"], strict=True)
    sizes = {"train": 0, "validation": 0}
    for split, frames, height, width in rows:
        sizes[split] += frames * (3 * height * width + 4)
    assert sum(sizes.values()) == sum(path.stat().st_size for path in (tmp_path / "store" / "shards").glob("*.u8"))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Writing 6 videos into {sum(sizes.values()) / 1e6:.1f} MB (" in said
    assert all(f"{split} {size / 1e6:.1f} MB" in said for split, size in sizes.items())


def test_unreadable_videos_are_left_out_and_named(
    action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (action_folder / "run" / "zero.mp4").touch()
    for images in (action_folder / "run" / "4", action_folder / "walk" / "9"):  # in the middle, and the last of all
        images.mkdir()
        for number, frame in enumerate(numbered_frames(30)):
            Image.fromarray(frame).save(images / f"{number}.png")
        (images / "20.png").write_bytes(b"damaged farther on than a probe looks")
    monkeypatch.setattr(shards_module, "WANTED_SHARDS", 1)
    report = make(action_folder, tmp_path / "store")
    assert {str(skipped) for skipped in report.skipped} == {
        "skipped run/zero.mp4: zero bytes",
        "skipped run/4: damaged image (20.png)",
        "skipped walk/9: damaged image (20.png)",
    }
    assert [path.name for path in (tmp_path / "store" / "shards").glob("*.u8")] == ["00000.u8"]
    verify_store(tmp_path / "store")
    stored = StoreSource(tmp_path / "store", "train", 1, balanced=False)
    folder = ListingSource(find_videos(action_folder, 0.3), "train", 32, 3, 1)
    after = stored.names.index("run/5.mp4")  # in the same shard
    length = stored.lengths[after]
    assert np.array_equal(stored.read(after, 0, length, 1), folder.read(folder.names.index("run/5.mp4"), 0, length, 1))


def test_pixels_that_change_on_the_way_to_the_disk_are_noticed(
    action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_badly(job: ShardJob) -> None:
        write_shard(job)
        shard = job.root / "shards" / f"{job.number:05}.u8"
        if job.number in (1, 4):
            shard.write_bytes(shard.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(prepare_module, "write_shard", write_badly)
    with pytest.raises(TrivdError, match=r"checksums differ for run/3\.mp4, walk/2\.mp4; check the disk and repeat"):
        make(action_folder, tmp_path / "store")
    assert not (tmp_path / "store" / "index.json").exists()
    monkeypatch.undo()
    assert any(line.startswith("wrote 2 videos, ") for line in make(action_folder, tmp_path / "store").notes)
    verify_store(tmp_path / "store")


def test_a_disk_that_fills_up_is_one_sentence(
    action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        if ".u8." in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrivdError, match=r"00000\.u8 could not be written: .*No space left on device; fix that"):
        make(action_folder, tmp_path / "store")
    assert list((tmp_path / "store" / "shards").iterdir()) == []
