"""Videos that were listed but not opened yet, whatever layout they came in, and one split of them as a source."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from trivd.data.decode import UnreadableVideo, Video, VideoInfo, first_frames
from trivd.data.report import ScanReport, Skipped
from trivd.data.source import Split, existing_split
from trivd.errors import TrivdError

LONG_SCAN = 500  # videos from which on scanning shows its progress


@dataclass(frozen=True)
class Entry:
    """A video of a data set, not yet opened."""

    video: Video
    name: str  # unique in the data set, mostly its path from the root with forward slashes
    split: Split
    class_name: str | None  # None: it has no label


@dataclass(frozen=True)
class Found:
    """The videos of a data set, in a fixed order, by what its files' names or lists say."""

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...]  # of all splits
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]  # for the user, one line each

    def labels(self, entries: list[Entry]) -> list[int]:
        """The number of each one's class; 0 without classes."""
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.classes)}
        return [numbers.get(entry.class_name, 0) for entry in entries]


class ListedVideos:
    """One split of what was found, decoded as it is read.

    Args:
        found: the videos.
        split: which of them; a data set with one held-out split gives it under either name.
        resolution: pixels of the short side of what `read` returns.
        channels: 3 (RGB) or 1 (grey).
        span: frames below which a video is too short.

    Raises:
        TrivdError: nothing is usable in this split.
    """

    def __init__(self, found: Found, split: Split, resolution: int, channels: int, span: int) -> None:
        self.resolution = resolution
        self.channels = channels
        self.split = existing_split({entry.split for entry in found.entries}, split)
        used: list[tuple[Entry, VideoInfo]] = []
        skipped = list(found.skipped)
        for entry, result in probe_all([entry for entry in found.entries if entry.split == self.split]):
            if isinstance(result, Skipped):
                skipped.append(result)
            elif result.frames < span:
                skipped.append(Skipped(entry.name, "too short", f"{result.frames} of {span} frames"))
            else:
                used.append((entry, result))
        self.classes = found.classes
        self.names = [entry.name for entry, _ in used]
        self.labels = found.labels([entry for entry, _ in used])
        self.lengths = [info.frames for _, info in used]
        self.report = ScanReport(
            f"{found.root}, {self.split}", self.classes, tuple(self.lengths), span, tuple(skipped), found.notes
        )
        self.summary = self.report.lines()
        self._videos = [entry.video for entry, _ in used]
        if not used:
            raise nothing_usable(found.root, self.split, self.report)

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        """Frames of one video: (count, H, W, C), min(H, W) = resolution. See `VideoSource.read`."""
        return first_frames(self._videos[video], start, count, stride, self.resolution, self.channels)


def nothing_usable(root: Path, split: str, report: ScanReport) -> TrivdError:
    """The error for a split without a video."""
    why = f" Skipped: {report.reasons}." if report.skipped else ""
    return TrivdError(
        f"{root} has no usable video for the split {split!r}.{why} "
        f"Add videos of at least {report.span} frames, or ask for shorter clips."
    )


def probe_all(entries: list[Entry]) -> Iterator[tuple[Entry, VideoInfo | Skipped]]:
    """Check videos several at a time; those that cannot be used give the reason."""

    def check(entry: Entry) -> VideoInfo | Skipped:
        try:
            return entry.video.probe()
        except UnreadableVideo as error:
            return Skipped(entry.name, error.reason, error.detail)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # FFmpeg works outside of Python's lock
        results = track(
            pool.map(check, entries),
            "Scanning videos",
            total=len(entries),
            console=Console(stderr=True),
            transient=True,
            disable=len(entries) < LONG_SCAN,
        )
        yield from zip(entries, results, strict=True)
