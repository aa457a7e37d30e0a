"""Reading stores: the folder's pixels, few files open, and never anything unfinished or silently damaged."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivd.config import DataConfig
from trivd.data.datasets.folder import find_videos
from trivd.data.listing import ListingSource
from trivd.data.splits import SPLITS
from trivd.data.store import source as store_module
from trivd.data.store.prepare import write_store
from trivd.data.store.source import DamagedVideo, StoreSource, is_store, verify_store
from trivd.runtime.errors import TrivdError

DATA = DataConfig(validation_share=0.3)


def make(root: Path, destination: Path, channels: int = 3) -> None:
    assert write_store(root, destination, resolution=32, channels=channels, data=DATA, workers=0, progress=None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made_store(shared_actions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos, each in a shard of its own; not to be changed."""
    store = tmp_path_factory.mktemp("made") / "store"
    make(shared_actions, store)
    return store


@pytest.fixture
def store(made_store: Path, tmp_path: Path) -> Path:
    """A copy of `made_store` for one test."""
    return Path(shutil.copytree(made_store, tmp_path / "store"))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_store_holds_the_folder_pixel_for_pixel(shared_actions: Path, tmp_path: Path, channels: int) -> None:
    make(shared_actions, tmp_path / "new" / "store", channels)
    for split in ("train", "validation"):
        stored = StoreSource(tmp_path / "new" / "store", split, 8, balanced=False)
        folder = ListingSource(find_videos(shared_actions, 0.3), split, 32, channels, 8)
        assert (stored.classes, stored.names, stored.labels) == (folder.classes, folder.names, folder.labels)
        assert stored.lengths == folder.lengths
        for video, length in enumerate(stored.lengths):
            assert np.array_equal(stored.read(video, 0, length, 1), folder.read(video, 0, length, 1))
            assert np.array_equal(stored.read(video, 3, 4, 5), folder.read(video, 3, 4, 5))
    verify_store(tmp_path / "new" / "store")


@given(seed=st.integers(0, 2**32 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_noticed_by_whoever_reads_its_frame(store: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = StoreSource(store, "train", 8, balanced=False)
    video = int(rng.integers(len(source.lengths)))
    shard, length = store / "shards" / f"{source._videos[video].shard:05}.u8", source.lengths[video]
    sound = shard.read_bytes()
    frame_bytes = len(sound) // length - 4  # each shard holds one video
    place = int(rng.integers(len(sound)))
    flipped = place // frame_bytes if place < frame_bytes * length else (place - frame_bytes * length) // 4
    stride = int(rng.integers(1, 4))
    count = int(rng.integers(1, (length - 1) // stride + 2))
    start = int(rng.integers(length - (count - 1) * stride))
    expected = source.read(video, start, count, stride)
    damaged = bytearray(sound)
    damaged[place] ^= 1 << int(rng.integers(8))
    shard.write_bytes(damaged)
    try:
        if flipped in range(start, start + count * stride, stride):
            with pytest.raises(DamagedVideo, match=rf"wrong checksum \({source.names[video]}\); delete the store's"):
                source.read(video, start, count, stride)
        else:
            assert np.array_equal(source.read(video, start, count, stride), expected)
    finally:
        shard.write_bytes(sound)


def test_a_shard_that_is_cut_or_gone_while_it_is_open(store: Path) -> None:
    source = StoreSource(store, "train", 8, balanced=False)
    source.read(0, 0, 8, 1)
    for shard in (store / "shards").glob("*.u8"):
        os.truncate(shard, 100)
    with pytest.raises(DamagedVideo, match=r"it ends too early \(run/1\.mp4\)"):
        source.read(0, 0, 8, 1)
    shutil.rmtree(store / "shards")
    with pytest.raises(DamagedVideo, match="No such file"):
        StoreSource.read(pickle.loads(pickle.dumps(source)), 0, 0, 8, 1)


def test_a_source_travels_without_its_pixels(store: Path) -> None:
    source = StoreSource(store, "train", 8, balanced=False)
    expected = source.read(0, 0, 8, 1)
    parcel = pickle.dumps(source)
    assert len(parcel) < 5000
    assert np.array_equal(pickle.loads(parcel).read(0, 0, 8, 1), expected)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not list open files")
def test_few_shards_are_open_at_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "OPEN_SHARDS", 2)
    source = StoreSource(store, "train", 8, balanced=False)
    first = [source.read(video, 0, 8, 1).copy() for video in range(len(source.lengths))]
    assert len(first) > 2
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert sum(name.startswith(str(store)) for name in opened) == 2
    again = [source.read(video, 0, 8, 1) for video in range(len(source.lengths))]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_short_videos_are_reported(store: Path) -> None:
    source = StoreSource(store, "train", 22, balanced=False)
    assert all(length >= 22 for length in source.lengths)
    assert any("too short (20 of 22 frames)" in line or "(21 of 22" in line for line in source.summary)
    with pytest.raises(TrivdError, match="no usable video"):
        StoreSource(store, "train", 100, balanced=False)


def test_the_balanced_split_is_taken_of_what_is_stored(store: Path) -> None:
    """70% of train, rounded down, in the order of the listing; all else is test."""
    original = {split: StoreSource(store, split, 1, balanced=False).names for split in SPLITS}
    kept = len(original["train"]) * 7 // 10
    assert 0 < kept < len(original["train"])
    assert StoreSource(store, "train", 1, balanced=True).names == original["train"][:kept]
    rest = [*original["train"][kept:], *original["validation"]]
    assert sorted(StoreSource(store, "test", 1, balanced=True).names) == sorted(rest)


def test_damage_is_named_and_the_way_out_mends_it(shared_actions: Path, store: Path) -> None:
    shard, index = store / "shards" / "00000.u8", store / "index.json"
    contents, text = shard.read_bytes(), index.read_text()

    shard.write_bytes(contents[:5] + bytes([contents[5] ^ 1]) + contents[6:])
    with pytest.raises(
        TrivdError, match=r"00000\.u8 is damaged: checksums differ for run/1\.mp4; delete .*index\.json"
    ):
        verify_store(store)
    index.unlink()
    with pytest.raises(TrivdError, match=r"checksums differ for run/1\.mp4; check the disk and repeat the command"):
        make(shared_actions, store)
    make(shared_actions, store)
    assert (shard.read_bytes(), index.read_text()) == (contents, text)

    shard.write_bytes(contents[:-7])
    with pytest.raises(TrivdError, match=r"00000\.u8 is damaged: it has .* bytes instead of"):
        StoreSource(store, "train", 8, balanced=False)
    shard.unlink()
    with pytest.raises(TrivdError, match=r"00000\.u8 is damaged: it is missing"):
        StoreSource(store, "train", 8, balanced=False)
    index.unlink()
    make(shared_actions, store)
    assert (shard.read_bytes(), index.read_text()) == (contents, text)


def test_a_damaged_index_is_named(store: Path) -> None:
    index = store / "index.json"
    text = index.read_text()
    values = json.loads(text)
    del values["videos"]["crc32c"]
    for broken in (text[:100], "[]", json.dumps({"format": "trivd-store"}), json.dumps(values)):
        index.write_text(broken)
        with pytest.raises(TrivdError, match=r"index\.json is damaged"):
            StoreSource(store, "train", 8, balanced=False)


@pytest.mark.parametrize(
    ("column", "value"),
    [("offset", 1), ("shard", 0), ("shard", 99), ("frames", 0), ("label", 2), ("split", "all"), ("height", "32")],
)
def test_an_index_that_contradicts_itself(store: Path, column: str, value: object) -> None:
    values = json.loads((store / "index.json").read_text())
    values["videos"][column][1] = value
    (store / "index.json").write_text(json.dumps(values))
    with pytest.raises(TrivdError, match=r"index\.json is damaged"):
        StoreSource(store, "train", 8, balanced=False)


@pytest.mark.parametrize(("version", "age"), [(3, "an older"), (5, "a newer")])
def test_stores_of_other_versions_are_named(store: Path, version: int, age: str) -> None:
    values = json.loads((store / "index.json").read_text()) | {"version": version}
    (store / "index.json").write_text(json.dumps(values))
    with pytest.raises(TrivdError, match=f"made by {age} version of trivd; prepare its videos again"):
        StoreSource(store, "train", 8, balanced=False)


def test_an_unfinished_store_is_not_trained_on(store: Path) -> None:
    (store / "index.json").unlink()
    assert is_store(store)
    with pytest.raises(TrivdError, match=r"store is not finished; repeat its `trivd prepare` command"):
        StoreSource(store, "train", 8, balanced=False)


def test_what_is_a_store(store: Path, shared_actions: Path, tmp_path: Path) -> None:
    assert is_store(store)
    assert not is_store(shared_actions)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.json").write_text("{}")
    assert not is_store(tmp_path / "other")


@pytest.mark.parametrize("name", ["index.json", "plan.json"])
def test_a_store_of_an_older_reader_says_so(store: Path, shared_actions: Path, name: str) -> None:
    """Those of before it was kept do not say which."""
    assert not any("older version" in line for line in StoreSource(store, "train", 8, balanced=False).summary)
    values = json.loads((store / name).read_text())
    del values["reader"]
    (store / name).write_text(json.dumps(values))
    if name == "index.json":
        source = StoreSource(store, "train", 8, balanced=False)
        assert any("older version of trivd" in line and "prepare them again" in line for line in source.summary)
        assert source.read(0, 0, 8, 1).shape[0] == 8
    else:
        with pytest.raises(TrivdError, match=r"older version of trivd.*new folder"):
            make(shared_actions, store)
