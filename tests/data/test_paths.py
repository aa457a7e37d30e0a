"""Lists of others name videos, never places: what would lead out of the data's folder is refused by its line."""

import json
from pathlib import Path

import pytest
from video_files import numbered_frames, write_video

from trivd.config import DataConfig
from trivd.data.datasets.annotations import LONGEST_LINE
from trivd.data.datasets.kinetics import find_kinetics
from trivd.data.datasets.layouts import find
from trivd.data.datasets.ucf101 import find_ucf101
from trivd.data.store.prepare import write_store
from trivd.data.store.source import StoreSource
from trivd.runtime.errors import TrivdError

OUTSIDE = ["../../etc/passwd", "/etc/passwd", "..", "a/../../b", "..\\..\\b", "a\0b"]
HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize("name", OUTSIDE)
def test_kinetics_lists_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.csv").write_text(f"{HEADER}run,AAAAAAAAAAA,0,10,train\nrun,{name},0,10,train\n")
    with pytest.raises(TrivdError, match=r"train\.csv, line 3"):
        find_kinetics(tmp_path, 0.1)


@pytest.mark.parametrize("name", OUTSIDE)
def test_ucf101_lists_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "classInd.txt").write_text("1 Run\n")
    (tmp_path / "testlist01.txt").write_text("Run/b.avi\n")
    for line in (f"Run/{name} 1", f"{name}/a.avi 1", name):
        (tmp_path / "trainlist01.txt").write_text(f"Run/a.avi 1\n{line}\n")
        with pytest.raises(TrivdError, match=r"trainlist01\.txt, line 2"):
            find_ucf101(tmp_path, 1)
    (tmp_path / "classInd.txt").write_text(f"1 Run\n2 {name}\n")
    with pytest.raises(TrivdError, match=r"classInd\.txt, line 2"):
        find_ucf101(tmp_path, 1)


def test_lines_without_an_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(HEADER + "x" * (3 * LONGEST_LINE))
    with pytest.raises(TrivdError, match=r"train\.csv, line 2: it has 65,536 bytes or more"):
        find_kinetics(tmp_path, 0.1)


def test_links_are_the_users_own(tmp_path: Path) -> None:
    """Those into other folders are followed; one to a folder that holds it is not."""
    write_video(tmp_path / "elsewhere" / "0.mp4", numbered_frames(3))
    data = tmp_path / "data" / "run"
    data.mkdir(parents=True)
    (data / "link.mp4").symlink_to(tmp_path / "elsewhere" / "0.mp4")
    (data / "round").symlink_to(data)
    found = find(tmp_path / "data", DataConfig())
    assert [entry.name for entry in found.entries] == ["run/link.mp4"]
    assert "link to a folder that holds it" in {skipped.reason for skipped in found.skipped}


def test_an_index_names_no_files(action_folder: Path, tmp_path: Path) -> None:
    """Its shards are numbers: names lead nowhere, and numbers must be those of the store's own shards."""
    store = tmp_path / "store"
    write_store(action_folder, store, resolution=32, channels=3, data=DataConfig(), workers=0, progress=None)
    index = json.loads((store / "index.json").read_text())
    videos = index["videos"]
    names = {**index, "videos": {**videos, "name": ["../../etc/passwd"] * len(videos["name"])}}
    (store / "index.json").write_text(json.dumps(names))
    assert len(StoreSource(store, "train", 1, False).read(0, 0, 1, 1)) == 1
    for key, value in (("shard", "../../x"), ("shard", -1), ("shard", 99), ("offset", -1), ("offset", 0.5)):
        changed = {**index, "videos": {**videos, key: [value] * len(videos["name"])}}
        (store / "index.json").write_text(json.dumps(changed))
        with pytest.raises(TrivdError, match=r"index\.json is damaged"):
            StoreSource(store, "train", 1, False)
    (store / "index.json").write_text("[" * 100_000)
    with pytest.raises(TrivdError, match="nested too deep"):
        StoreSource(store, "train", 1, False)
