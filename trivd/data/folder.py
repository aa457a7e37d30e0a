"""Videos in a folder, as the user has them; the folder is only read.

Layout:
- `train/` and one of `validation/`, `val/`, `valid/`, `test/` are the splits. Without them, a stable hash of each
  video's path chooses; at least one video is held out where there are two.
- Sub-folders (of each split) are the classes, in alphabetical order; their videos may lie at any depth.
- Videos that lie directly beside each other, without sub-folders, carry no labels. So do all videos if some lie beside
  class folders, since their class is unknown.
- A folder of numbered images, without videos or folders in it, is one video, not a class. Hidden files are ignored.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from trivd.data.decode import UnreadableVideo, VideoInfo, is_video, probe, read_frames
from trivd.data.report import ScanReport, Skipped
from trivd.data.source import Split
from trivd.errors import TrivdError

HELD_OUT = ("validation", "val", "valid", "test")  # the first of them that is there
LONG_SCAN = 500  # videos from which on scanning shows its progress


@dataclass(frozen=True)
class Entry:
    """A video of a folder, not yet opened."""

    path: Path
    name: str  # its path from the root, with forward slashes
    split: Split
    class_name: str | None  # None: directly in the split's folder


@dataclass(frozen=True)
class Found:
    """The videos of a folder by the look of their names."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]  # of all splits
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def labels(self, entries: list[Entry]) -> list[int]:
        """The number of each one's class; 0 without classes."""
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.classes)}
        return [numbers.get(entry.class_name, 0) for entry in entries]


class FolderSource:
    """One split of a folder of videos, decoded as they are read.

    Args:
        root: the folder; see the module's text for its layout.
        split: "all" takes both.
        resolution: pixels of the short side of what `read` returns.
        channels: 3 (RGB) or 1 (grey).
        span: frames below which a video is too short.
        validation_share: of the videos, where there are no split folders.

    Raises:
        TrivdError: there is no such folder, or nothing usable in this split.
    """

    def __init__(
        self,
        root: Path,
        split: Literal["train", "validation", "all"],
        resolution: int,
        channels: int,
        span: int,
        validation_share: float,
    ) -> None:
        self.resolution = resolution
        self.channels = channels
        found = find_videos(root, validation_share)
        wanted = [entry for entry in found.entries if split in ("all", entry.split)]
        used: list[tuple[Entry, VideoInfo]] = []
        skipped = list(found.skipped)
        for entry, result in probe_all(wanted):
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
            f"{root}, {split}", self.classes, tuple(self.lengths), span, tuple(skipped), found.notes
        )
        self.summary = self.report.lines()
        self._paths = [entry.path for entry, _ in used]
        if not used:
            raise nothing_usable(root, split, self.report)

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        """Frames of one video: (count, H, W, C), min(H, W) = resolution. See `VideoSource.read`."""
        path = self._paths[video]
        return read_frames(path, start, count, stride, short_side=self.resolution, channels=self.channels)


def nothing_usable(root: Path, split: str, report: ScanReport) -> TrivdError:
    """The error for a split without a video."""
    why = f" Skipped: {report.reasons}." if report.skipped else ""
    return TrivdError(
        f"{root} has no usable video for the split {split!r}.{why} "
        f"Add videos of at least {report.span} frames, or ask for shorter clips."
    )


def find_videos(root: Path, validation_share: float) -> Found:
    """List the videos of a folder, with their splits and classes; none is opened.

    Raises:
        TrivdError: there is no such folder.
    """
    if not root.is_dir():
        raise TrivdError(f"{root} is not a folder; name one that holds videos.")
    held_out = next((name for name in HELD_OUT if (root / name).is_dir()), None)
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    if held_out is not None and (root / "train").is_dir():
        _list_split(root, root / "train", "train", entries, skipped)
        _list_split(root, root / held_out, "validation", entries, skipped)
        beside = [path.name for path in _visible(root) if path.name not in ("train", held_out)]
        skipped += [Skipped(name, f"beside train and {held_out}") for name in beside]
        notes.append(f"split by the folders train and {held_out}")
    else:
        _list_split(root, root, "train", entries, skipped)
        entries = _split_by_hash(entries, validation_share)
        notes.append(f"split by a hash of each path: {validation_share:.0%} for validation")
    classes = tuple(sorted({entry.class_name for entry in entries if entry.class_name is not None}))
    loose = sum(entry.class_name is None for entry in entries)
    if loose and classes:
        notes.append(f"no labels: {loose} videos lie beside the folders {', '.join(classes)}")
        classes = ()
    return Found(tuple(entries), classes, tuple(skipped), tuple(notes))


def probe_all(entries: list[Entry]) -> Iterator[tuple[Entry, VideoInfo | Skipped]]:
    """Check videos several at a time; those that cannot be used give the reason."""

    def check(entry: Entry) -> VideoInfo | Skipped:
        try:
            return probe(entry.path)
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


def _list_split(root: Path, folder: Path, split: Split, entries: list[Entry], skipped: list[Skipped]) -> None:
    """Add what lies in the folder of one split; its sub-folders are the classes."""

    def add(path: Path, class_name: str | None) -> None:
        name = path.relative_to(root).as_posix()
        if is_video(path):
            entries.append(Entry(path, name, split, class_name))
        elif path.is_symlink() and path.resolve() in path.absolute().parents:
            skipped.append(Skipped(name, "link to a folder that holds it"))
        elif path.is_dir():
            inner = _visible(path)
            if not inner:
                skipped.append(Skipped(name, "empty folder"))
            for below in inner:
                add(below, class_name or path.name)
        else:
            skipped.append(Skipped(name, "not a video"))

    if is_video(folder):
        entries.append(Entry(folder, folder.relative_to(root).as_posix(), split, None))
        return
    for path in _visible(folder):
        add(path, None)


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, in alphabetical order, without hidden files."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _split_by_hash(entries: list[Entry], validation_share: float) -> list[Entry]:
    """Hold out the videos with small hashes, so that no video changes sides when others come or go."""
    places = [_place(entry.name) for entry in entries]
    share = validation_share
    if len(entries) > 1:  # few videos may all fall on one side: the nearest one then changes sides
        smallest, *_, largest = sorted(places)
        share = min(max(share, float(np.nextafter(smallest, 1.0))), largest)
    return [
        replace(entry, split="validation" if place < share else "train")
        for entry, place in zip(entries, places, strict=True)
    ]


def _place(name: str) -> float:
    """A number in [0, 1) that a name always has."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
