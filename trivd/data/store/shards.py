"""The jobs of making a store: each decodes neighbours in a listing into one shard.

The jobs follow from the listing and the settings alone, so that any call finds the same ones.
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
from trivd.data.store.series import HasSeries, is_whole, write_series
from trivd.runtime.errors import TrivdError

SHARD_VIDEOS = 64  # at most, in one shard
SHARD_BYTES = 1 << 28  # at most, unless one video alone has more
WANTED_SHARDS = 64  # at least, where there are as many videos, so that few videos, too, occupy all cores


@dataclass(frozen=True)
class ShardJob:
    """The videos of one shard, and how to decode them."""

    root: Path  # folder of the store
    number: int
    entries: tuple[Entry, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, ...]  # predicted bytes of each
    resolution: int
    channels: int

    def finished(self) -> ShardIndex | None:
        """The index of the shard; None unless the job is done."""
        index = read_shard_index(self.root, self.number)
        if index is None:
            return None
        if any(isinstance(entry.video, HasSeries) for entry in self.entries) and not is_whole(self.root, self.number):
            return None
        names = {video.name for video in index.videos} | {skipped.name for skipped in index.skipped}
        return index if names == {entry.name for entry in self.entries} else None


def plan_shards(
    root: Path, listing: Listing, probes: Sequence[VideoInfo | Skipped], resolution: int, channels: int
) -> list[ShardJob]:
    """All jobs of a listing.

    Args:
        root: the store's folder.
        listing: the videos.
        probes: result of the probe of each of them.
        resolution: short side of the stored frames in pixels.
        channels: 3 (RGB) or 1 (grey).
    """
    readable = [
        (entry, video_bytes(seen.frames, *resized(seen.height, seen.width, resolution), channels))
        for entry, seen in zip(listing.entries, probes, strict=True)
        if isinstance(seen, VideoInfo)
    ]
    labels = listing.labels([entry for entry, _ in readable])
    most = min(SHARD_VIDEOS, max(1, len(readable) // WANTED_SHARDS))
    runs: list[list[tuple[Entry, int, int]]] = []
    total = 0
    for (entry, size), label in zip(readable, labels, strict=True):
        total += size
        if not runs or len(runs[-1]) == most or total > SHARD_BYTES:
            runs.append([])
            total = size
        runs[-1].append((entry, label, size))
    jobs = []
    for number, run in enumerate(runs):
        entries, numbers, sizes = zip(*run, strict=True)
        jobs.append(ShardJob(root, number, entries, numbers, sizes, resolution, channels))
    return jobs


def write_shard(job: ShardJob) -> None:
    """Decode the videos of a job into its shard, then write the shard's index, which marks it as done.

    Raises:
        TrivdError: it cannot be written.
    """
    path = shard_path(job.root, job.number)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    videos, skipped, series = [], [], []
    try:
        with temporary.open("wb") as file:
            for entry, label in zip(job.entries, job.labels, strict=True):
                offset = file.tell()
                try:
                    videos.append(_append(file, entry, label, job))
                    if isinstance(entry.video, HasSeries):
                        series.append(entry.video.series())
                except UnreadableVideo as error:  # damage that the probe did not reach
                    skipped.append(Skipped(entry.name, error.reason, error.detail))
                    file.seek(offset)
                    file.truncate()
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())  # else the index might survive a power cut, and the pixels not
        os.replace(temporary, path)
        if series:
            write_series(job.root, job.number, series)
        write_shard_index(job.root, job.number, ShardIndex(size, tuple(videos), tuple(skipped)))
    except OSError as error:
        raise TrivdError(
            f"{path} could not be written: {error}; fix that and repeat the command: finished shards are kept."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _append(file: BinaryIO, entry: Entry, label: int, job: ShardJob) -> StoredVideo:
    """Append one decoded video to the file, frame by frame."""
    offset, whole, checksums = file.tell(), 0, []
    shape: tuple[int, ...] = ()
    for frame in entry.video.frames(0, 1, FrameConverter(job.resolution, job.channels)):
        shape = frame.shape
        file.write(frame.data)
        whole = google_crc32c.extend(whole, frame)
        checksums.append(google_crc32c.value(frame))
    if not checksums:
        raise UnreadableVideo(entry.video.path, "empty", "no frame could be decoded")
    table = np.array(checksums, CHECKSUM).tobytes()
    file.write(table)
    whole = google_crc32c.extend(whole, table)
    return StoredVideo(entry.name, label, entry.split, len(checksums), shape[0], shape[1], job.number, offset, whole)


def verify_shard(job: ShardJob) -> list[str]:
    """Names of the videos whose bytes have changed since they were written; their shard then counts as not done."""
    index = job.finished()
    if index is None:
        return [entry.name for entry in job.entries]
    changed = changed_videos(shard_path(job.root, job.number), index.videos, job.channels)
    if changed:
        shard_index_path(job.root, job.number).unlink()
    return changed
