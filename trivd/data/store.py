"""Videos decoded once into one flat file of uint8 frames, which training maps into memory.

The files' layout is described in `trivd.data.store_index`.
"""

import dataclasses
import json
import math
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from trivd.data.decode import UnreadableVideo, VideoInfo
from trivd.data.folder import find_videos
from trivd.data.frames import FrameConverter, resized
from trivd.data.listing import Entry, nothing_usable, probe_all
from trivd.data.report import ScanReport, Skipped
from trivd.data.source import Split, existing_split
from trivd.data.store_index import (
    FORMAT,
    FRAMES,
    INDEX,
    VERSION,
    StoredVideo,
    StoreIndex,
    is_store,
    read_index,
    verify_store,
)
from trivd.errors import TrivdError

__all__ = ["StoreSource", "is_store", "verify_store", "write_store"]


class StoreSource:
    """One split of a store.

    Args:
        root: the store's folder.
        split: which videos; the store remembers their splits.
        span: frames below which a video is too short.

    Raises:
        TrivdError: this is no store, it is damaged, or has nothing usable in this split.
    """

    def __init__(self, root: Path, split: Split, span: int) -> None:
        self.root = root
        self.index = read_index(root)
        self.resolution = self.index.resolution
        self.channels = self.index.channels
        self.classes = tuple(self.index.classes)
        self.split = existing_split({video.split for video in self.index.videos}, split)
        wanted = [video for video in self.index.videos if video.split == self.split]
        self._videos = [video for video in wanted if video.frames >= span]
        self.names = [video.name for video in self._videos]
        self.labels = [video.label for video in self._videos]
        self.lengths = [video.frames for video in self._videos]
        skipped = [
            Skipped(video.name, "too short", f"{video.frames} of {span} frames")
            for video in wanted
            if video.frames < span
        ]
        self.report = ScanReport(
            f"{root} (store), {self.split}", self.classes, tuple(self.lengths), span, tuple(skipped)
        )
        self.summary = self.report.lines()
        self._bytes: NDArray[np.uint8] | None = None
        if not self._videos:
            raise nothing_usable(root, self.split, self.report)

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        """Frames of one video, a read-only view of the file: (count, H, W, C). See `VideoSource.read`."""
        if self._bytes is None:  # opened where it is used, so that a worker process maps the file itself
            self._bytes = np.memmap(self.root / FRAMES, np.uint8, "r")
        stored = self._videos[video]
        pixels = self._bytes[stored.offset : stored.offset + self.index.size(stored)]
        frames = pixels.reshape(stored.frames, stored.height, stored.width, self.channels)
        return frames[start : start + (count - 1) * stride + 1 : stride]

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker process: not the map, which would be sent as all the bytes of the file."""
        return self.__dict__ | {"_bytes": None}


def write_store(
    source_root: Path,
    destination: Path,
    resolution: int,
    channels: Literal[1, 3],
    validation_share: float,
    progress: Console | None,
) -> ScanReport:
    """Decode each readable video of a folder once into a new store.

    Args:
        source_root: a folder as `FolderSource` reads it; it is not changed.
        destination: the store's folder, which must not exist.
        resolution: pixels of the short side.
        channels: 3 (RGB) or 1 (grey).
        validation_share: as for `FolderSource`; the store keeps the splits.
        progress: where to say the size and show a bar; None shows nothing.

    Returns:
        What was stored and skipped.

    Raises:
        TrivdError: nothing can be read, the destination exists or lies in the source, or the disk is too small.
    """
    if destination.exists():
        raise TrivdError(f"{destination} exists and is not overwritten; name a new folder.")
    if destination.resolve().is_relative_to(source_root.resolve()):
        raise TrivdError(f"{destination} lies within the videos' folder; name a place outside of {source_root}.")
    found = find_videos(source_root, validation_share)
    skipped = list(found.skipped)
    readable: list[Entry] = []
    size = 0
    for entry, result in probe_all(list(found.entries)):
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            readable.append(entry)
            size += _predicted_size(result, resolution, channels)

    parent = destination.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(parent).free
    if size > free:
        raise TrivdError(
            f"The store needs {size / 1e9:.1f} GB but {parent} has {free / 1e9:.1f} GB left; "
            "name a destination on a larger disk or prepare fewer videos."
        )
    if progress is not None:
        progress.print(f"Decoding {len(readable):,} videos into {size / 1e6:,.1f} MB", highlight=False)
    unfinished = parent / f".{destination.name}.unfinished-{os.getpid()}"
    unfinished.mkdir()
    try:
        videos: list[StoredVideo] = []
        with (unfinished / FRAMES).open("wb") as file:
            labelled = list(zip(readable, found.labels(readable), strict=True))
            for entry, label in track(
                labelled, "Decoding videos", console=progress, transient=True, disable=progress is None
            ):
                offset = file.tell()
                try:
                    videos.append(_append(file, entry, label, resolution, channels))
                except UnreadableVideo as error:  # damaged farther on than the check looked
                    skipped.append(Skipped(entry.name, error.reason, error.detail))
                    file.seek(offset)
                    file.truncate()
            total = file.tell()
        lengths = tuple(video.frames for video in videos)
        notes = (*found.notes, f"{total / 1e6:,.1f} MB at {resolution} pixels")
        report = ScanReport(f"{destination} (store)", found.classes, lengths, 1, tuple(skipped), notes)
        if not videos:
            raise nothing_usable(source_root, "all", report)
        index = StoreIndex(FORMAT, VERSION, resolution, channels, total, list(found.classes), videos)
        (unfinished / INDEX).write_text(json.dumps(dataclasses.asdict(index)))
        unfinished.rename(destination)
    except BaseException:  # an interruption, too, leaves nothing behind
        shutil.rmtree(unfinished)
        raise
    return report


def _append(file: BinaryIO, entry: Entry, label: int, resolution: int, channels: int) -> StoredVideo:
    """Decode one video to the end of the file, a frame at a time."""
    offset, count, checksum = file.tell(), 0, 0
    shape: tuple[int, ...] = ()
    for frame in entry.video.frames(0, 1, FrameConverter(resolution, channels)):
        shape = frame.shape
        file.write(frame.data)
        checksum = zlib.crc32(frame.data, checksum)
        count += 1
    if not count:
        raise UnreadableVideo(entry.video.path, "empty", "no frame could be decoded")
    return StoredVideo(entry.name, label, entry.split, count, shape[0], shape[1], offset, checksum)


def _predicted_size(info: VideoInfo, resolution: int, channels: int) -> int:
    return info.frames * math.prod(resized(info.height, info.width, resolution)) * channels
