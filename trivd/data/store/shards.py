"""Units of the work that makes a store: neighbours in a listing, which one process decodes into one shard.

What the units are follows from the listing and the settings alone, so that any call finds the same ones.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from trivd.data.formats.decode import UnreadableVideo, VideoInfo
from trivd.data.formats.frames import FrameConverter, resized
from trivd.data.listing import Entry, Listing
from trivd.data.scan_report import Skipped
from trivd.data.store.index import (
    CHECKSUM,
    ShardIndex,
    StoredVideo,
    changed_videos,
    read_shard_index,
    shard_index_path,
    shard_path,
    video_bytes,
    write_shard_index,
)
from trivd.runtime.errors import TrivdError

SHARD_VIDEOS = 64  # at most
SHARD_BYTES = 1 << 28  # at most, unless one video alone has more
WANTED_SHARDS = 64  # wanted at least where there are as many videos, so that few videos, too, occupy all cores


@dataclass(frozen=True)
class ShardJob:
    """Videos that become one shard."""

    root: Path  # of the store
    number: int
    entries: tuple[Entry, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, ...]  # predicted bytes of each
    resolution: int
    channels: int

    def record(self) -> ShardIndex | None:
        """What is in the shard; None unless it is done."""
        record = read_shard_index(self.root, self.number)
        if record is None:
            return None
        names = {video.name for video in record.videos} | {skipped.name for skipped in record.skipped}
        return record if names == {entry.name for entry in self.entries} else None


def plan_shards(
    root: Path, found: Listing, probes: Sequence[VideoInfo | Skipped], resolution: int, channels: int
) -> list[ShardJob]:
    """All units of a listing.

    Args:
        root: the store's folder.
        found: the listing.
        probes: what was seen of each of its videos.
        resolution: pixels of the short side.
        channels: 3 (RGB) or 1 (grey).
    """
    readable = [
        (entry, video_bytes(seen.frames, *resized(seen.height, seen.width, resolution), channels))
        for entry, seen in zip(found.entries, probes, strict=True)
        if isinstance(seen, VideoInfo)
    ]
    labels = found.labels([entry for entry, _ in readable])
    most = min(SHARD_VIDEOS, max(1, len(readable) // WANTED_SHARDS))
    runs: list[list[tuple[Entry, int, int]]] = []
    total = 0
    for (entry, size), label in zip(readable, labels, strict=True):
        total += size
        if not runs or len(runs[-1]) == most or total > SHARD_BYTES:
            runs.append([])
            total = size
        runs[-1].append((entry, label, size))
    units = []
    for number, run in enumerate(runs):
        entries, numbers, sizes = zip(*run, strict=True)
        units.append(ShardJob(root, number, entries, numbers, sizes, resolution, channels))
    return units


def write_shard(unit: ShardJob) -> None:
    """Decode a unit into its shard, then say that it is done.

    Raises:
        TrivdError: it cannot be written.
    """
    path = shard_path(unit.root, unit.number)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    videos, skipped = [], []
    try:
        with temporary.open("wb") as file:
            for entry, label in zip(unit.entries, unit.labels, strict=True):
                offset = file.tell()
                try:
                    videos.append(_append(file, entry, label, unit))
                except UnreadableVideo as error:  # damaged farther on than the probe looked
                    skipped.append(Skipped(entry.name, error.reason, error.detail))
                    file.seek(offset)
                    file.truncate()
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())  # else the record might survive a power cut, and the pixels not
        os.replace(temporary, path)
        write_shard_index(unit.root, unit.number, ShardIndex(size, tuple(videos), tuple(skipped)))
    except OSError as error:
        raise TrivdError(
            f"{path} could not be written: {error}; mend that and repeat the command: finished shards are kept."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _append(file: BinaryIO, entry: Entry, label: int, unit: ShardJob) -> StoredVideo:
    """Decode one video to the end of the file, a frame at a time."""
    offset, whole, checksums = file.tell(), 0, []
    shape: tuple[int, ...] = ()
    for frame in entry.video.frames(0, 1, FrameConverter(unit.resolution, unit.channels)):
        shape = frame.shape
        file.write(frame.data)
        whole = google_crc32c.extend(whole, frame)
        checksums.append(google_crc32c.value(frame))
    if not checksums:
        raise UnreadableVideo(entry.video.path, "empty", "no frame could be decoded")
    table = np.array(checksums, CHECKSUM).tobytes()
    file.write(table)
    whole = google_crc32c.extend(whole, table)
    return StoredVideo(entry.name, label, entry.split, len(checksums), shape[0], shape[1], unit.number, offset, whole)


def verify_shard(unit: ShardJob) -> list[str]:
    """Names of the videos that are not as they were written; their shard then counts as not done."""
    record = unit.record()
    if record is None:
        return [entry.name for entry in unit.entries]
    changed = changed_videos(shard_path(unit.root, unit.number), record.videos, unit.channels)
    if changed:
        shard_index_path(unit.root, unit.number).unlink()
    return changed
