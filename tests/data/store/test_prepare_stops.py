"""Preparing stores: the same bytes whoever writes them and whatever stops them, and nothing done twice."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prepare_checks import contents, make, times
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from video_files import numbered_frames, write_video

from trivd.commands.main import main
from trivd.data.listing import Entry
from trivd.data.store import prepare as prepare_module
from trivd.data.store import shards as shards_module
from trivd.data.store.shards import ShardJob
from trivd.data.store.source import is_store, verify_store
from trivd.runtime.errors import TrivdError


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


def succeed(words: list[str]) -> None:
    """Run a command that ends well."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def test_two_workers_write_the_same_bytes_as_one(action_folder: Path, tmp_path: Path) -> None:
    one, two = make(action_folder, tmp_path / "one"), make(action_folder, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert one.lengths == two.lengths
    verify_store(tmp_path / "two")


def test_two_processes_of_torchrun_write_the_same_bytes_as_one(
    many: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torchrun's launcher, which here forks a process that has imported everything instead of starting Python."""
    words = ["prepare", many, tmp_path / "store", "--resolution", "32", "--validation-share", "0.3", "--workers", "1"]
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_endpoint="localhost:0",
        rdzv_backend="c10d",
        start_method="forkserver",
        logs_specs=DefaultLogsSpecs(str(tmp_path / "logs"), redirects=Std.ALL),
        signals_to_handle="SIGQUIT",
    )
    handler = signal.getsignal(signal.SIGQUIT)
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "")  # the launcher sets it, for this process too
    elastic_launch(settings, succeed)(list(map(str, words)))
    signal.signal(signal.SIGQUIT, handler)
    assert contents(tmp_path / "store") == undisturbed
    said = "".join(log.read_text() for log in (tmp_path / "logs").rglob("stdout.log"))
    assert said.count(": 24 videos, 2,904 frames") == 1  # one process reports, on all


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
def test_a_killed_run_resumes_and_leaves_no_process(many: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
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
    deadline = time.monotonic() + 120
    while orphans := {pid for pid in family if pid in descendants(pid)}:
        assert time.monotonic() < deadline, orphans
        time.sleep(0.02)
    done = times(store)
    assert 2 <= len(done) / 2 < 24
    assert is_store(store)
    assert not (store / "index.json").exists()

    succeed([*words[:-1], "1"])  # with any number of workers
    assert contents(store) == undisturbed
    assert done.items() <= times(store).items()
    before = times(store)
    assert "complete already" in " ".join(make(many, store).lines())
    assert times(store) == before
    assert contents(store) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_keeps_what_is_done(
    action_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    append = shards_module._append
    words = ["prepare", str(action_folder), str(tmp_path / "store"), "--resolution", "32"]
    words += ["--validation-share", "0.3", "--workers", "1"]

    def interrupted(file: Any, entry: Entry, label: int, job: ShardJob) -> Any:
        stored = append(file, entry, label, job)
        if job.number == 2:
            os.kill(os.getpid(), number)
        return stored

    before = signal.getsignal(number)
    monkeypatch.setattr(shards_module, "_append", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 3
    assert "Stopped; finished shards are kept. Repeat the command to resume." in capsys.readouterr().out
    assert signal.getsignal(number) is before
    names = sorted(path.name for path in (tmp_path / "store" / "shards").iterdir())
    assert names == ["00000.json", "00000.u8", "00001.json", "00001.u8"]
    done = times(tmp_path / "store")

    monkeypatch.setattr(shards_module, "_append", append)
    report = make(action_folder, tmp_path / "store")
    assert any(line.startswith("wrote 4 videos, ") for line in report.notes)
    assert len(report.lengths) == 6
    make(action_folder, tmp_path / "other")
    assert contents(tmp_path / "store") == contents(tmp_path / "other")
    assert done.items() <= times(tmp_path / "store").items()


def test_a_shard_without_its_size_or_index_is_made_again(action_folder: Path, tmp_path: Path) -> None:
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
