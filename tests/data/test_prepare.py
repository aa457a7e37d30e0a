"""Preparing stores: the same bytes whoever writes them and whatever stops them; nothing twice, nothing overwritten."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from video_files import numbered_frames, write_video

from trivd.cli import main
from trivd.config import DataConfig
from trivd.data import prepare as prepare_module
from trivd.data import units as units_module
from trivd.data.decode import VideoFile, VideoInfo
from trivd.data.folder import find_videos
from trivd.data.listing import Entry, Found, ListedVideos
from trivd.data.prepare import write_store
from trivd.data.processes import Workers
from trivd.data.report import ScanReport, Skipped
from trivd.data.store import StoreSource, is_store, verify_store
from trivd.data.units import Unit, cut_units, write_shard
from trivd.errors import TrivdError

DATA = DataConfig(validation_share=0.3)


def make(root: Path, destination: Path, workers: int = 0, **settings: Any) -> ScanReport:
    report = write_store(root, destination, 32, 3, DataConfig(**{"validation_share": 0.3} | settings), workers, None)
    assert report is not None
    return report


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    """When each finished shard, and its record, was written."""
    records = [path for path in (folder / "shards").glob("*.json") if not path.name.startswith(".")]
    files = [*records, *(record.with_suffix(".u8") for record in records)]
    return {path.name: path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 videos of 120 frames, which take a while to decode."""
    root = tmp_path_factory.mktemp("many")
    for number in range(3):
        made = write_video(root / "videos" / f"{number:02}.avi", numbered_frames(120 + number, 240, 320))
        for copy in range(3 + number, 24, 3):
            shutil.copy(made, made.with_name(f"{copy:02}.avi"))
    return root / "videos"


@pytest.fixture(scope="module")
def undisturbed(many: Path) -> dict[str, bytes]:
    """The files of their store, made by one process in one go."""
    make(many, many.with_name("undisturbed"))
    return contents(many.with_name("undisturbed"))


# The same bytes whoever writes them.


def test_two_workers_write_the_same_bytes_as_one(action_folder: Path, tmp_path: Path) -> None:
    one, two = make(action_folder, tmp_path / "one"), make(action_folder, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert one.lengths == two.lengths
    verify_store(tmp_path / "two")


def test_two_processes_of_torchrun_write_the_same_bytes_as_one(
    many: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trivd"]
    words = ["prepare", many, tmp_path / "store", "--resolution", "32", "--validation-share", "0.3", "--workers", "1"]
    done = subprocess.run([*torchrun, *words], capture_output=True, text=True, check=True)
    assert contents(tmp_path / "store") == undisturbed
    assert done.stdout.count(": 24 videos, 2,904 frames") == 1  # one process reports, on all


# Nothing is done twice.


def descendants(pid: int) -> set[int]:
    """Processes below one, those that are dead but not yet forgotten left out."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:  # it has ended meanwhile
                continue
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    found: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found & set(parents)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not list processes in /proc")
def test_a_killed_run_goes_on_and_leaves_no_process(many: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = ["prepare", str(many), str(store), "--resolution", "32", "--validation-share", "0.3", "--workers", "2"]
    running = subprocess.Popen([sys.executable, "-m", "trivd", *words], stdout=subprocess.DEVNULL)
    while len(list((store / "shards").glob("0*.json"))) < 2 and running.poll() is None:
        time.sleep(0.002)
    time.sleep(random.Random(time.time_ns()).uniform(0, 0.1))
    family = descendants(running.pid)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert len(family) >= 3  # it and two workers
    deadline = time.monotonic() + 10
    while orphans := {pid for pid in family if pid in descendants(pid)}:
        assert time.monotonic() < deadline, orphans
        time.sleep(0.02)
    done = times(store)
    assert 2 <= len(done) / 2 < 24
    assert is_store(store)
    assert not (store / "index.json").exists()

    with pytest.raises(SystemExit) as ended:
        main([*words[:-1], "1"])  # with any number of workers
    assert ended.value.code == 0
    assert contents(store) == undisturbed
    assert done.items() <= times(store).items()
    before = times(store)
    assert "complete already" in " ".join(make(many, store).lines())
    assert times(store) == before
    assert contents(store) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_done(
    action_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    append = units_module._append
    words = ["prepare", str(action_folder), str(tmp_path / "store"), "--resolution", "32"]
    words += ["--validation-share", "0.3", "--workers", "1"]

    def interrupted(file: Any, entry: Entry, label: int, unit: Unit) -> Any:
        stored = append(file, entry, label, unit)
        if unit.number == 2:
            os.kill(os.getpid(), number)
        return stored

    before = signal.getsignal(number)
    monkeypatch.setattr(units_module, "_append", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 3
    assert "Stopped; finished shards are kept. Repeat the command to go on." in capsys.readouterr().out
    assert signal.getsignal(number) is before
    names = sorted(path.name for path in (tmp_path / "store" / "shards").iterdir())
    assert names == ["00000.json", "00000.u8", "00001.json", "00001.u8"]
    done = times(tmp_path / "store")

    monkeypatch.setattr(units_module, "_append", append)
    report = make(action_folder, tmp_path / "store")
    assert any(line.startswith("decoded 4 videos, ") for line in report.notes)
    assert len(report.lengths) == 6
    make(action_folder, tmp_path / "other")
    assert contents(tmp_path / "store") == contents(tmp_path / "other")
    assert done.items() <= times(tmp_path / "store").items()


def test_a_shard_without_its_size_or_record_is_made_again(action_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    make(action_folder, store)
    whole, before = contents(store), times(store)
    (store / "index.json").unlink()
    (store / "shards" / "00001.json").write_text("")  # as a power cut may leave it
    (store / "shards" / "00003.u8").write_bytes(b"short")
    for name in ("00004.u8.123.tmp", ".00004.json.123.tmp", "notes.tmp"):
        (store / "shards" / name).write_text("half")
    make(action_folder, store)
    assert (store / "shards" / "notes.tmp").exists()  # not a name of ours
    (store / "shards" / "notes.tmp").unlink()
    assert contents(store) == whole
    changed = {name for name, written in times(store).items() if before[name] != written}
    assert changed == {"00001.json", "00001.u8", "00003.json", "00003.u8"}


def test_videos_are_not_looked_at_twice(action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(TrivdError, match=r"needs 0\.0 GB but .* has 0\.0 GB left; make room and repeat"):
        make(action_folder, tmp_path / "store")
    assert list((tmp_path / "store" / "shards").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.delattr(prepare_module, "probe_all")
    assert len(make(action_folder, tmp_path / "store").lengths) == 6


def test_only_what_is_left_has_to_fit_on_the_disk(
    action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    make(action_folder, store)
    shards = sorted((store / "shards").glob("*.u8"))
    needed = shards[-1].stat().st_size
    (store / "index.json").unlink()
    shards[-1].unlink()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(TrivdError, match="GB left"):
        make(action_folder, store)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    make(action_folder, store)
    verify_store(store)


# What is refused, and what is said.


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
        write_store(action_folder, store, 16, 1, DATA, 0, None)
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
    write_store(action_folder, tmp_path / "store", 32, 3, DATA, 0, console)
    videos = json.loads((tmp_path / "store" / "index.json").read_text())["videos"]
    rows = zip(videos["split"], videos["frames"], videos["height"], videos["width"], strict=True)
    sizes = {"train": 0, "validation": 0}
    for split, frames, height, width in rows:
        sizes[split] += frames * (3 * height * width + 4)
    assert sum(sizes.values()) == sum(path.stat().st_size for path in (tmp_path / "store" / "shards").glob("*.u8"))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Decoding 6 videos into {sum(sizes.values()) / 1e6:.1f} MB (" in said
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
    monkeypatch.setattr(units_module, "UNITS", 1)
    report = make(action_folder, tmp_path / "store")
    assert {str(skipped) for skipped in report.skipped} == {
        "skipped run/zero.mp4: zero bytes",
        "skipped run/4: damaged image (20.png)",
        "skipped walk/9: damaged image (20.png)",
    }
    assert [path.name for path in (tmp_path / "store" / "shards").glob("*.u8")] == ["00000.u8"]
    verify_store(tmp_path / "store")
    stored = StoreSource(tmp_path / "store", "train", 1, balanced=False)
    folder = ListedVideos(find_videos(action_folder, 0.3), "train", 32, 3, 1)
    after = stored.names.index("run/5.mp4")  # in the same shard
    length = stored.lengths[after]
    assert np.array_equal(stored.read(after, 0, length, 1), folder.read(folder.names.index("run/5.mp4"), 0, length, 1))


def test_pixels_that_change_on_the_way_to_the_disk_are_noticed(
    action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_badly(unit: Unit) -> None:
        write_shard(unit)
        shard = unit.root / "shards" / f"{unit.number:05}.u8"
        if unit.number in (1, 4):
            shard.write_bytes(shard.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(prepare_module, "write_shard", write_badly)
    with pytest.raises(TrivdError, match=r"checksums differ for run/3\.mp4, walk/2\.mp4; check the disk and repeat"):
        make(action_folder, tmp_path / "store")
    assert not (tmp_path / "store" / "index.json").exists()
    monkeypatch.undo()
    assert any(line.startswith("decoded 2 videos") for line in make(action_folder, tmp_path / "store").notes)
    verify_store(tmp_path / "store")


def test_a_disk_that_fills_up_is_one_sentence(
    action_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrivdError, match=r"00000\.u8 could not be written: .*No space left on device; mend that"):
        make(action_folder, tmp_path / "store")
    assert list((tmp_path / "store" / "shards").iterdir()) == []


# Units and workers.


@given(
    videos=st.lists(st.one_of(st.none(), st.integers(1, 90_000)), min_size=1, max_size=400),
    channels=st.sampled_from([1, 3]),
)
def test_units_are_runs_of_the_listing(videos: list[int | None], channels: int) -> None:
    """Frames of each video, None for those that are unreadable; a frame is 32 x 32."""
    entries = tuple(Entry(VideoFile(Path("v")), str(n), "train", None) for n in range(len(videos)))
    found = Found(Path("root"), entries, (), (), ())
    probes = [
        Skipped(str(n), "bad") if frames is None else VideoInfo(frames, 64, 64) for n, frames in enumerate(videos)
    ]
    units = cut_units(Path("store"), found, probes, 32, channels)
    assert [unit.number for unit in units] == list(range(len(units)))
    joined = [(entry.name, size) for unit in units for entry, size in zip(unit.entries, unit.sizes, strict=True)]
    readable = [(str(n), frames * (32 * 32 * channels + 4)) for n, frames in enumerate(videos) if frames is not None]
    assert joined == readable
    for unit in units:
        assert 1 <= len(unit.entries) <= max(1, len(readable) // 64)
        assert len(unit.entries) == 1 or sum(unit.sizes) <= 2**28


def test_large_sets_have_large_units() -> None:
    entries = tuple(Entry(VideoFile(Path("v")), str(n), "train", None) for n in range(64 * 64 + 1))
    found = Found(Path("root"), entries, (), (), ())
    units = cut_units(Path("store"), found, [VideoInfo(10, 64, 64)] * len(entries), 32, 3)
    assert [len(unit.entries) for unit in units] == [64] * 64 + [1]
    units = cut_units(Path("store"), found, [VideoInfo(300, 64, 96)] * len(entries), 64, 3)
    assert {len(unit.entries) for unit in units[:-1]} == {2**28 // (300 * 64 * 96 * 3)}


def test_a_killed_worker_is_one_sentence() -> None:
    with Workers(2) as workers, pytest.raises(TrivdError, match=r"worker process was killed.*fewer --workers"):
        list(workers.each(os._exit, [1, 1]))


def test_an_error_ends_busy_workers_at_once() -> None:
    def interrupted() -> None:
        with Workers(2) as workers:
            for _ in workers.each(time.sleep, [0, 600, 600, 600]):
                raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 60
