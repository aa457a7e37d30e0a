"""Real disks hold folders of tools and of trivd, and unreadable ones, among videos; none of them ends a command."""

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_files import numbered_frames, write_video

from trivd.config import Config, DataConfig, ModelConfig, to_dict
from trivd.data.clips import Clip, open_clips
from trivd.data.datasets.folder import find_videos
from trivd.data.datasets.layouts import find
from trivd.data.formats.decode import UnreadableVideo
from trivd.data.listing import ListingSource
from trivd.data.store.prepare import write_store
from trivd.models.generator import Generator
from trivd.models.pretrained import save_generator
from trivd.prediction.columns import Column
from trivd.prediction.comparison import write_comparison
from trivd.prediction.futures import write_futures
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.training.run import Run

SMALL = ModelConfig(resolution=32, conditioning_frames=2, predicted_frames=3)
TOOLS = [
    ".git/1.mp4",
    ".ipynb_checkpoints/1.mp4",
    ".Trash-1000/1.mp4",
    "__MACOSX/a/._1.mp4",
    "a/._1.mp4",
    "a/Thumbs.db",
    "a/desktop.ini",
    "a/@eaDir/1.mp4/SYNOPHOTO_THUMB_1.jpg",
    "@eaDir/1.mp4",
    "#recycle/1.mp4",
    "$RECYCLE.BIN/1.mp4",
    "System Volume Information/1.mp4",
    "lost+found/1.mp4",
    "__pycache__/1.mp4",
]


FOUR = ("a/1.npy", "a/2.npy", "b/1.npy", "b/2.npy")


def arrays(root: Path, *names: str, frames: int = 12) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.zeros((frames, 32, 32, 3), np.uint8))
    return root


def test_what_the_system_and_tools_keep_is_not_seen(tmp_path: Path) -> None:
    root = arrays(tmp_path, *FOUR)
    before = find_videos(root, 0.3)
    for name in TOOLS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert find_videos(root, 0.3) == before
    assert find(root, DataConfig(validation_share=0.3, layout="folder")).skipped == ()


def test_images_with_a_tools_folder_are_still_one_video(tmp_path: Path) -> None:
    (tmp_path / "frames" / "@eaDir").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "frames" / f"{number}.png").touch()
    assert [entry.name for entry in find_videos(tmp_path, 0.3).entries] == ["frames"]


OWN_FOLDERS = {
    "run": "the folder of a run",
    "model": "a saved model",
    "store": "a store made by `trivd prepare`",
    "half": "a store made by",
    "drawn": "a folder of predictions",
    "compared": "a folder of comparisons",
    "venv": "a Python environment",
}


@pytest.fixture(scope="module")
def made_folders(tmp_path_factory: pytest.TempPathFactory, tiny_config: Any, make_generator: Any) -> Path:
    """The folder of `OWN_FOLDERS` as trivd, and Python, write them; not to be changed."""
    base = tmp_path_factory.mktemp("made")
    root = base / "own"
    config: Config = tiny_config()
    with Run(root / "run").opened(config, "videos"):
        pass
    (root / "run" / "samples").mkdir()
    arrays(root / "run" / "samples", "1.npy")
    generator: Generator = make_generator()
    save_generator(generator, root / "model", {})
    arrays(base / "clip", "clip.npy", "other.npy")
    write_store(base / "clip", root / "store", resolution=32, channels=3, data=DataConfig(), workers=0, progress=None)
    (root / "half").mkdir()
    (root / "half" / "plan.json").write_bytes((root / "store" / "plan.json").read_bytes())
    predictor = Predictor(generator, {"data": "", "step": 0, "config": to_dict(config)})
    list(write_futures(predictor, base / "clip" / "clip.npy", root / "drawn", Sampling(), npz=True))
    column, clips = Column("model", predictor, None), {0: Clip(np.zeros((5, 32, 32, 3), np.uint8), 0)}
    list(write_comparison([column], clips, root / "compared", about=[]))
    (root / "venv").mkdir()
    (root / "venv" / "pyvenv.cfg").touch()
    return root


@pytest.fixture
def own_folders(made_folders: Path, tmp_path: Path) -> dict[str, Path]:
    """A copy of each of them for one test, by what it is said to be."""
    shutil.copytree(made_folders, tmp_path / "own")
    return {said: tmp_path / "own" / name for name, said in OWN_FOLDERS.items()}


@pytest.mark.parametrize("place", [".", "a", "a/deep/er", "runs/first"])
def test_what_trivd_wrote_is_left_out_and_said(own_folders: dict[str, Path], tmp_path: Path, place: str) -> None:
    root = arrays(tmp_path / "data", *FOUR)
    before = find_videos(root, 0.3)
    (root / place).mkdir(parents=True, exist_ok=True)
    for folder in own_folders.values():
        folder.rename(root / place / folder.name)
    found = find_videos(root, 0.3)
    assert (found.entries, found.classes, found.skipped) == (before.entries, before.classes, ())
    for what, folder in own_folders.items():
        name = (Path(place) / folder.name).as_posix()
        assert any(note.startswith(f"left out {name}: {what}") for note in found.notes)


def test_a_run_beside_images_leaves_them_one_video(own_folders: dict[str, Path], tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{number}.png").touch()
    before = find_videos(tmp_path / "data", 0.3).entries
    own_folders["the folder of a run"].rename(tmp_path / "data" / "run")
    assert find_videos(tmp_path / "data", 0.3).entries == before


def test_what_trivd_wrote_is_no_data(own_folders: dict[str, Path]) -> None:
    for what, folder in own_folders.items():
        with pytest.raises(TrivdError, match=f"{folder} is {what}.*name the folder of the videos"):
            find(folder, DataConfig())


def test_other_files_of_those_names_are_the_users(tmp_path: Path) -> None:
    root = arrays(tmp_path, "a/1.npy", "b/1.npy")
    for name in ("run.json", "index.json", "plan.json", "config.json", "grid.png"):
        (root / "a" / name).write_text('{"format": "theirs"}')
    assert find_videos(root, 0.3).classes == ("a", "b")


@pytest.fixture
def closed_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders named "closed" cannot be read, not even by the administrator."""
    scandir = os.scandir

    def scan(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)


@pytest.mark.usefixtures("closed_folders")
def test_folders_that_cannot_be_read_are_skipped(tmp_path: Path) -> None:
    root = arrays(tmp_path, "a/1.npy", "b/1.npy", "b/closed/1.npy", "closed/1.npy")
    source = ListingSource(find(root, DataConfig(validation_share=0.3)), "train", 32, 3, 2)
    assert source.classes == ("a", "b")
    for name in ("closed", "b/closed"):
        assert f"skipped {name}: cannot be read (Permission denied)" in source.summary
    with pytest.raises(TrivdError, match=f"{root / 'closed'} cannot be read: Permission denied"):
        find_videos(root / "closed", 0.3)


@pytest.mark.usefixtures("closed_folders")
def test_closed_folders_of_data_sets_with_lists(tmp_path: Path) -> None:
    """Kinetics and UCF-101: one folder that cannot be read, and those of tools, end nothing."""
    kinetics, ucf101 = tmp_path / "kinetics", tmp_path / "ucf101"
    clips = [f"{letter * 11}_000000_000010" for letter in "ABC"]
    for folder, clip in zip(("train", "val", "closed"), clips, strict=True):
        arrays(kinetics / folder, "x.npy")
        (kinetics / folder / f"{clip}.mp4").touch()
        (kinetics / folder / "Thumbs.db").touch()
    rows = [f"{clip[:11]},0,10,{split}" for clip, split in zip(clips, ("train", "val", "train"), strict=True)]
    (kinetics / "all.csv").write_text("\n".join(["youtube_id,time_start,time_end,split", *rows]))
    ucf101.mkdir()
    (ucf101 / "classInd.txt").write_text("1 a\n2 closed\n")
    (ucf101 / "trainlist01.txt").write_text("a/1.avi 1\nclosed/1.avi 2\n")
    (ucf101 / "testlist01.txt").write_text("a/2.avi\n")
    for name in ("a/1.avi", "a/2.avi", "a/desktop.ini", "closed/1.avi", "lost+found/1.avi"):
        (ucf101 / name).parent.mkdir(exist_ok=True)
        (ucf101 / name).touch()
    for root, layout, missing in ((kinetics, "kinetics600", f"{clips[2]}.mp4"), (ucf101, "ucf101", "closed/1.avi")):
        found = find(root, DataConfig())
        assert f"layout {layout}" in found.notes
        assert [entry.split == "train" for entry in found.entries] == [True, False]
        skipped = {one.name: one.reason for one in found.skipped}
        assert skipped["closed"] == "cannot be read"
        assert skipped[missing] == "missing"
        assert not any("Thumbs" in name or "desktop" in name or "lost" in name for name in skipped)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_closed_folders_and_files(tmp_path: Path) -> None:
    root = arrays(tmp_path, "a/1.npy", "b/1.npy", "b/2.npy", "shut/1.npy", "names/1.npy")
    write_video(root / "b" / "3.mp4", numbered_frames(12))
    modes = {"shut": 0, "names": 0o444, "b/2.npy": 0, "b/3.mp4": 0}
    try:
        for name, mode in modes.items():
            (root / name).chmod(mode)
        found = find(root, DataConfig())
        names = [name for split in ("train", "validation") for name in ListingSource(found, split, 32, 3, 2).names]  # type: ignore[arg-type]
        assert sorted(names) == ["a/1.npy", "b/1.npy"]
    finally:
        for name in modes:
            (root / name).chmod(0o755)


def test_links_and_what_is_no_file(tmp_path: Path) -> None:
    root = arrays(tmp_path / "data", *FOUR)
    (root / "a" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (root / "a" / "gone").symlink_to(tmp_path / "nowhere")
    (root / "a" / "round.mp4").symlink_to(root / "a" / "round.mp4")
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "across").symlink_to(root / "a")
    (root / "a" / "across").symlink_to(root / "b")
    os.mkfifo(root / "a" / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as made:
        place = os.getcwd()
        os.chdir(root / "a")  # a socket's name may have but a hundred bytes
        made.bind("socket.npy")
        os.chdir(place)
    (tmp_path / "link").symlink_to(root)
    for seen in (root, tmp_path / "link"):
        found = find(seen, DataConfig())
        sides = [ListingSource(found, split, 32, 3, 2) for split in ("train", "validation")]  # type: ignore[arg-type]
        names = {name for side in sides for name in side.names}
        assert names == {"a/1.npy", "a/2.npy", "b/1.npy", "b/2.npy"}
        reasons = {one.name: one.reason for side in sides for one in side.report.skipped}
        assert reasons["a/gone"] == "not a video"
        assert reasons["a/gone.mp4"] == reasons["a/round.mp4"] == "missing"
        assert reasons["a/pipe.mp4"] == reasons["a/socket.npy"] == "not a file"
        assert reasons["a/up"] == "link to a folder that holds it"
        assert reasons["a/across/1.npy"] == reasons["b/across/2.npy"] == "linked to a video that is used"


@pytest.mark.parametrize("copies", [("train", "val"), ("a", "b"), ("train/a", "test/a")])
def test_a_linked_video_is_on_one_side_alone(tmp_path: Path, copies: tuple[str, str]) -> None:
    """And held out where the links do not agree."""
    arrays(tmp_path / "pool", *(f"{number}.npy" for number in range(8)))
    for folder in copies:
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(8 if folder == copies[0] else 3):
            (tmp_path / "data" / folder / f"{number}.npy").symlink_to(tmp_path / "pool" / f"{number}.npy")
    found = find_videos(tmp_path / "data", 0.3)
    real = [(entry.video.path.resolve().name, entry.split) for entry in found.entries]
    assert sorted(name for name, _ in real) == [f"{number}.npy" for number in range(8)]
    if "a" not in copies:
        assert {name for name, split in real if split != "train"} == {"0.npy", "1.npy", "2.npy"}
    assert [one.reason for one in found.skipped] == ["linked to a video that is used"] * 3


def test_a_video_that_can_no_longer_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise PermissionError(13, "Permission denied", "1.npy")

    root = arrays(tmp_path, "1.npy", "2.npy")
    source = ListingSource(find(root, DataConfig()), "train", 32, 3, 2)
    monkeypatch.setattr("trivd.data.formats.decode.VideoFile.frames", refuse)
    with pytest.raises(UnreadableVideo, match=r"\.npy cannot be used as a video: cannot be read \(Permission denied\)"):
        source.read(0, 0, 1, 1)
    monkeypatch.setattr("trivd.data.formats.decode.VideoFile.probe", refuse)
    with pytest.raises(TrivdError, match="2 cannot be read"):
        ListingSource(find(root, DataConfig()), "train", 32, 3, 2)


NAMES = [
    b"\xff\xfe.npy",
    b"caf\xe9/1.npy",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}/1.npy".encode(),
    b"a\nb/1.npy",
    b"x" * 250 + b".npy",
]


def test_names_of_any_bytes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in NAMES:
        path = Path(os.fsdecode(os.path.join(os.fsencode(root), name)))
        arrays(path.parent, path.name)
    found = find(root, DataConfig())
    assert {entry.name for entry in found.entries} == {
        "\\xff\\xfe.npy",
        "caf\\xe9/1.npy",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}/1.npy",
        "a\nb/1.npy",
        "x" * 250 + ".npy",
    }
    sides = [ListingSource(found, split, 32, 3, 2) for split in ("train", "validation")]  # type: ignore[arg-type]
    assert sum(len(side.names) for side in sides) == len(NAMES)
    for side in sides:
        assert side.read(0, 0, 2, 1).shape == (2, 32, 32, 3)
        assert not any("\n" in line for line in side.summary)
        "".join(side.summary).encode()
    write_store(root, tmp_path / "store", resolution=32, channels=3, data=DataConfig(), workers=0, progress=None)
    stored = [open_clips(tmp_path / "store", split, DataConfig(), SMALL) for split in ("train", "validation")]  # type: ignore[arg-type]
    assert sum(clips.evaluation_clips for clips in stored) == 2 * len(NAMES)
