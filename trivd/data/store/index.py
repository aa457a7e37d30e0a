"""The files of a store, their indexes and their checksums.

- `shards/00000.u8`, ...: videos one after the other, each (T, H, W, C) uint8, followed by the CRC-32C of each frame (T
  uint32, little-endian), which is verified when the frame is read.
- `shards/00000.npz`, ...: where videos have more than pixels, see `Series` in `trivd.data.store.series`.
- `shards/00000.json`, ...: index of that shard, and the videos that were skipped; written last, so it marks the shard
  as done.
- `index.json`: index of all videos in all shards; written at the very end, so it marks the store as done.
- `plan.json`, `probes/`: the plan of the store, and the probes of the videos; see `trivd.data.store.prepare`.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from trivd.data.formats.frames import READER
from trivd.data.scan_report import Skipped
from trivd.data.splits import SPLITS, Split
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import read_json, write_atomically

FORMAT = "trivd-store"
VERSION = 4
FIRST_READER = 1  # version of the readers that decoded stores without one
INDEX = "index.json"
PLAN = "plan.json"
SHARDS = "shards"
LARGEST_INDEX = 1 << 27  # bytes; the index of 480,000 videos has 60 MB
CHECK_BYTES = 1 << 24  # read at once when checksums are verified
CHECKSUM = np.dtype("<u4")  # CRC-32C of a frame


class StoredVideo(NamedTuple):
    """A video in a store: its place, size and class."""

    name: str  # name in the data set that it came from
    label: int
    split: Split
    frames: int
    height: int
    width: int
    shard: int
    offset: int  # bytes from the beginning of the shard
    crc32c: int  # of all its bytes, including the frames' checksums


@dataclass(frozen=True)
class StoreIndex:
    """The contents of `index.json`."""

    resolution: int  # pixels of each video's short side
    channels: int
    classes: tuple[str, ...]
    shards: tuple[int, ...]  # size of each in bytes
    videos: tuple[StoredVideo, ...]  # in the order of the shards
    fps: float | None = None  # rate at which they were read; None: their own frames
    reader: int = READER  # version of the readers that decoded them


@dataclass(frozen=True)
class ShardIndex:
    """The contents of a shard's JSON file."""

    bytes: int
    videos: tuple[StoredVideo, ...]
    skipped: tuple[Skipped, ...]  # damaged where the probe did not look


def shard_path(root: Path, number: int) -> Path:
    """Path of a shard."""
    return root / SHARDS / f"{number:05}.u8"


def shard_index_path(root: Path, number: int) -> Path:
    """Path of a shard's index."""
    return shard_path(root, number).with_suffix(".json")


def video_bytes(frames: int, height: int, width: int, channels: int) -> int:
    """Bytes that a video takes in its shard."""
    return frames * (height * width * channels + CHECKSUM.itemsize)


def columns(videos: Sequence[StoredVideo]) -> dict[str, list[Any]]:
    """Videos as JSON values in columns, of which half a million are read in a second."""
    return {name: [video[place] for video in videos] for place, name in enumerate(StoredVideo._fields)}


def from_columns(values: Mapping[str, list[Any]]) -> list[StoredVideo]:
    """The videos from the values that `columns` returns.

    Raises:
        KeyError, TypeError, ValueError: the values are no such columns.
    """
    for name in StoredVideo._fields:
        _check_type(str if name in ("name", "split") else int, name, values[name])
    rows = zip(*(values[name] for name in StoredVideo._fields), strict=True)
    return [StoredVideo(*row) for row in rows]


def _check_type(kind: type, name: str, values: Iterable[Any]) -> None:
    if not all(type(value) is kind for value in values):
        raise TypeError(f"something in {name} is no {kind.__name__}")


def write_shard_index(root: Path, number: int, index: ShardIndex) -> None:
    """Write the index of a shard, which marks the shard as done."""
    values = {
        "bytes": index.bytes,
        "videos": columns(index.videos),
        "skipped": [asdict(skipped) for skipped in index.skipped],
    }
    write_atomically(shard_index_path(root, number), json.dumps(values).encode())


def read_shard_index(root: Path, number: int) -> ShardIndex | None:
    """The index of a shard; None unless the shard is done and still has its size."""
    try:
        values = read_json(shard_index_path(root, number), LARGEST_INDEX)
        skipped = tuple(Skipped(**row) for row in values["skipped"])
        index = ShardIndex(values["bytes"], tuple(from_columns(values["videos"])), skipped)
        size = shard_path(root, number).stat().st_size
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a crash of the machine may leave an empty file
        return None
    return index if size == index.bytes else None


def is_store(path: Path) -> bool:
    """Whether a folder is a store, possibly an unfinished or damaged one."""
    for name in (INDEX, PLAN):
        if (path / name).is_file():
            with (path / name).open("rb") as file:
                return FORMAT.encode() in file.read(64)
    return False


def write_index(root: Path, index: StoreIndex) -> None:
    """Write `index.json`, which marks the store as complete."""
    values = {
        "format": FORMAT,
        "version": VERSION,
        "reader": index.reader,
        "resolution": index.resolution,
        "channels": index.channels,
        "fps": None if index.fps is None else float(index.fps),
        "classes": index.classes,
        "shards": index.shards,
        "videos": columns(index.videos),
    }
    write_atomically(root / INDEX, json.dumps(values).encode())


def read_index(root: Path) -> StoreIndex:
    """Read the index of a store, and check it against the sizes of the shards.

    Raises:
        TrivdError: the store is unfinished, of another version, or a file, which is named, is missing or damaged.
    """
    path = root / INDEX
    if not path.is_file() and (root / PLAN).is_file():
        raise TrivdError(f"{root} is not finished; repeat its `trivd prepare` command to resume it.")
    try:
        values = read_json(path, LARGEST_INDEX)
        kind, version = values["format"], values["version"]
        if kind == FORMAT and version != VERSION:
            age = "an older" if version < VERSION else "a newer"
            raise TrivdError(f"{root} was made by {age} version of trivd; prepare its videos again, in a new folder.")
        index = StoreIndex(
            values["resolution"],
            values["channels"],
            tuple(values["classes"]),
            tuple(values["shards"]),
            tuple(from_columns(values["videos"])),
            values.get("fps"),
            values.get("reader", FIRST_READER),
        )
        numbers = (index.resolution, index.channels, index.reader, *index.shards)
        _check_type(int, "resolution, channels, reader and shards", numbers)
        _check_type(float, "fps", [] if index.fps is None else [index.fps])
        _check_type(str, "classes", index.classes)
        _check_videos(index)
    except FileNotFoundError as error:
        raise _damaged(root, path, "it is missing") from error
    except KeyError as error:
        raise _damaged(root, path, f"it has no {error}") from error
    except (ValueError, TypeError, IndexError) as error:
        raise _damaged(root, path, str(error)) from error
    for number, size in enumerate(index.shards):
        shard = shard_path(root, number)
        if not shard.is_file():
            raise _damaged(root, shard, "it is missing")
        if shard.stat().st_size != size:
            raise _damaged(root, shard, f"it has {shard.stat().st_size:,} bytes instead of {size:,}")
    return index


def _check_videos(index: StoreIndex) -> None:
    """Raise ValueError, TypeError or IndexError if the entries contradict each other."""
    if index.fps is not None and not index.fps > 0:
        raise ValueError(f"fps is {index.fps}")
    filled = [0] * len(index.shards)
    shard = 0
    for video in index.videos:
        fits = video.shard >= shard and video.offset == filled[video.shard] and 0 <= video.crc32c < 1 << 32
        is_whole = video.frames >= 1 and min(video.height, video.width) == index.resolution and video.split in SPLITS
        if not (fits and is_whole and 0 <= video.label < max(1, len(index.classes))):
            raise ValueError(f"the entry of {video.name} contradicts the others")
        shard = video.shard
        filled[shard] += video_bytes(video.frames, video.height, video.width, index.channels)
    if filled != list(index.shards):
        raise ValueError("its videos do not add up to its shards")


def changed_videos(shard: Path, videos: Iterable[StoredVideo], channels: int) -> list[str]:
    """Names of those videos of a shard whose bytes have changed; `videos` are all of the shard, in order."""
    changed = []
    with shard.open("rb") as file:
        for video in videos:
            left, checksum = video_bytes(video.frames, video.height, video.width, channels), 0
            while left and (piece := file.read(min(left, CHECK_BYTES))):
                checksum = google_crc32c.extend(checksum, piece)
                left -= len(piece)
            if left or checksum != video.crc32c:
                changed.append(video.name)
    return changed


def verify_store(root: Path) -> None:
    """Read all frames of a store and compare their checksums.

    Raises:
        TrivdError: a file is missing or damaged; the message names the damaged videos.
    """
    index = read_index(root)
    for number, videos in itertools.groupby(index.videos, lambda video: video.shard):
        changed = changed_videos(shard_path(root, number), videos, index.channels)
        if changed:
            raise _damaged(root, shard_path(root, number), f"checksums differ for {', '.join(changed)}")


def _damaged(root: Path, path: Path, why: str) -> TrivdError:
    return TrivdError(
        f"{path} is damaged: {why}; delete {root / INDEX} and repeat the store's `trivd prepare` command, which writes "
        "again what is damaged."
    )
