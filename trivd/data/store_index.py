"""The index of a store: what its two files hold, and whether they still do.

`frames.u8` is all videos one after the other, each (T, H, W, C) uint8; `index.json` says where each begins and what it
is.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import dacite

from trivd.data.source import Split
from trivd.errors import TrivdError

FORMAT = "trivd-store"
VERSION = 1
INDEX = "index.json"
FRAMES = "frames.u8"
CHECK_BYTES = 1 << 24  # read at once when checksums are verified


@dataclass(frozen=True)
class StoredVideo:
    """Where a video lies in `frames.u8`."""

    name: str  # its path in the folder it came from
    label: int
    split: Split
    frames: int
    height: int
    width: int
    offset: int  # bytes
    crc32: int  # of its bytes


@dataclass(frozen=True)
class StoreIndex:
    """All of `index.json`."""

    format: str
    version: int
    resolution: int  # pixels of each video's short side
    channels: int
    bytes: int  # of `frames.u8`
    classes: list[str]
    videos: list[StoredVideo]

    def size(self, video: StoredVideo) -> int:
        """Bytes of a video."""
        return video.frames * video.height * video.width * self.channels


def is_store(path: Path) -> bool:
    """Whether a folder is a store, possibly a damaged one."""
    index = path / INDEX
    if not index.is_file():
        return (path / FRAMES).is_file()
    with index.open("rb") as file:
        return FORMAT.encode() in file.read(64)


def read_index(root: Path) -> StoreIndex:
    """The index of a store, checked against its frames' size.

    Raises:
        TrivdError: a file is missing or damaged; it is named.
    """
    path = root / INDEX
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
        index = dacite.from_dict(StoreIndex, values, dacite.Config(strict=True))
        size = (root / FRAMES).stat().st_size
    except FileNotFoundError as error:
        raise _damaged(Path(error.filename), "it is missing") from error
    except (ValueError, dacite.DaciteError) as error:
        raise _damaged(path, str(error)) from error
    if (index.format, index.version) != (FORMAT, VERSION):
        raise _damaged(path, f"it is {index.format} version {index.version}, not {FORMAT} version {VERSION}")
    if size != index.bytes:
        raise _damaged(root / FRAMES, f"it has {size:,} bytes instead of {index.bytes:,}")
    offset = 0
    for video in index.videos:
        is_whole = min(video.frames, video.height, video.width) >= 1
        if video.offset != offset or not is_whole or not 0 <= video.label < max(1, len(index.classes)):
            raise _damaged(path, f"the entry of {video.name} contradicts the others")
        offset += index.size(video)
    if offset != index.bytes:
        raise _damaged(path, "its videos do not add up to its bytes")
    return index


def verify_store(root: Path) -> None:
    """Read all frames and compare their checksums.

    Raises:
        TrivdError: a file is missing or damaged; the videos that have changed are named.
    """
    index = read_index(root)
    changed = []
    with (root / FRAMES).open("rb") as file:
        for video in index.videos:
            left, checksum = index.size(video), 0
            while left:
                piece = file.read(min(left, CHECK_BYTES))
                checksum = zlib.crc32(piece, checksum)
                left -= len(piece)
            if checksum != video.crc32:
                changed.append(video.name)
    if changed:
        raise _damaged(root / FRAMES, f"checksums differ for {', '.join(changed)}")


def _damaged(path: Path, why: str) -> TrivdError:
    return TrivdError(f"{path} is damaged: {why}; make the store again with `trivd prepare`.")
