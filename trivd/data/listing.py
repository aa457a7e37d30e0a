"""Listings of videos that have not been opened yet, and one split of a listing as a source of clips."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from trivd.data.formats.decode import UnreadableVideo, Video, VideoInfo, first_frames
from trivd.data.scan_report import ScanReport, Skipped, rate_notes
from trivd.data.splits import Segment, Split, divide, existing_split
from trivd.data.threads import in_threads
from trivd.runtime.errors import TrivdError
from trivd.runtime.words import counted

TOO_SHORT = "too short"
LONG_SCAN = 500  # videos; longer scans show a progress bar


@dataclass(frozen=True)
class Entry:
    """A video of a data set that has not been opened yet."""

    video: Video
    name: str  # unique in the data set, mostly its path from the root with forward slashes
    split: Split
    class_name: str | None  # None: it has no label


@dataclass(frozen=True)
class Listing:
    """The videos of a data set in a fixed order, found by the names of files or by the data set's lists."""

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...]  # of all splits
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]  # for the user, one line each
    validation_share: float | None = None  # share held out by a hash; None if the data say what is held out
    fps: float | None = None  # rate at which its videos are read; None: their own frames

    def labels(self, entries: list[Entry]) -> list[int]:
        """Class number of each entry; 0 without classes."""
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.classes)}
        return [numbers.get(entry.class_name, 0) for entry in entries]


class ListingSource:
    """One split of a listing, decoded as it is read.

    Where the data do not say what is held out and one side has no usable video, the usable ones are divided anew; a
    single one is cut in time. See `trivd.data.splits`.

    Args:
        listing: the videos.
        split: split to read; a data set with one held-out split gives it under either name.
        resolution: short side of the frames that `read` returns, in pixels.
        channels: 3 (RGB) or 1 (grey).
        span: number of consecutive frames that a clip spans; shorter videos are skipped.
        exact: whether the other held-out split will not do.

    Raises:
        TrivdError: the split has no usable video.
    """

    def __init__(
        self, listing: Listing, split: Split, resolution: int, channels: int, span: int, *, exact: bool = False
    ) -> None:
        self.resolution = resolution
        self.channels = channels
        is_open = listing.validation_share is not None
        splits: set[Split] = {"train", "validation"} if is_open else {entry.split for entry in listing.entries}
        self.split = existing_split(splits, split, listing.root, exact)
        mine = [entry for entry in listing.entries if entry.split == self.split]
        others = [entry for entry in listing.entries if entry.split != self.split]
        used, skipped = usable(mine, span)
        notes = listing.notes
        segments = [Segment(number, self.split, 0, info.frames) for number, (_, info) in enumerate(used)]
        if listing.validation_share is not None and not (used and _any_usable(others, span)):
            more, reasons = usable(others, span)
            used, skipped = used + more, skipped + reasons
            if used:
                names, lengths = [entry.name for entry, _ in used], [info.frames for _, info in used]
                segments, note = divide(listing.root, names, lengths, span, listing.validation_share)
                notes = (*notes, note)
        segments = [segment for segment in segments if segment.split == self.split]
        infos = [used[segment.video][1] for segment in segments]
        notes = (*notes, *rate_notes(infos, listing.fps))
        if count := sum(not info.seekable for info in infos):
            notes = (
                *notes,
                f"{counted(count, 'video')} that cannot be entered at keyframes: read from the beginning for each clip",
            )
        entries = [used[segment.video][0] for segment in segments]
        self.fps = listing.fps if any(info.rate is not None for info in infos) else None
        self.classes = listing.classes
        self.names = [entry.name for entry in entries]
        self.labels = listing.labels(entries)
        self.lengths = [segment.frames for segment in segments]
        self.report = ScanReport(
            f"{listing.root}, {self.split}",
            self.classes,
            tuple(self.lengths),
            span,
            (*listing.skipped, *skipped),
            notes,
        )
        self.summary = self.report.lines()
        self._videos = [entry.video for entry in entries]
        self._first = [segment.first for segment in segments]
        if not segments:
            raise nothing_usable(listing.root, self.split, self.report, splits if listing.entries else (), listing.fps)

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        """Frames of one video: (count, H, W, C), min(H, W) = resolution. See `VideoSource.read`."""
        opened = self._videos[video]
        try:
            return first_frames(
                opened, self._first[video] + start, count, stride, short_side=self.resolution, channels=self.channels
            )
        except OSError as error:  # it is gone, or no longer readable
            raise UnreadableVideo(opened.path, "cannot be read", error.strerror or "") from error


def usable(entries: Sequence[Entry], span: int) -> tuple[list[tuple[Entry, VideoInfo]], list[Skipped]]:
    """The videos that have at least `span` frames, and the reasons why the others are skipped."""
    used, skipped = [], []
    for entry, seen in probe_all(entries):
        if isinstance(seen, Skipped):
            skipped.append(seen)
        elif seen.frames < span:
            skipped.append(Skipped(entry.name, TOO_SHORT, f"{seen.frames} of {span} frames"))
        else:
            used.append((entry, seen))
    return used, skipped


def _any_usable(entries: Sequence[Entry], span: int) -> bool:
    """Whether there is a usable video; the search ends at the first."""
    return any(usable([entry], span)[0] for entry in entries)


def nothing_usable(
    root: Path, split: str, report: ScanReport, splits: Collection[str] = (), fps: float | None = None
) -> TrivdError:
    """The error for a split without a usable video.

    Args:
        root: of the data.
        split: that has none.
        report: what was skipped.
        splits: those that have videos.
        fps: rate at which videos were read; None: their own.
    """
    others = sorted(set(splits) - {split})
    where = f", all are for {' and '.join(others)}" if others and split not in splits else ""
    why = f" Skipped: {report.reasons}." if report.skipped else ""
    if where:
        advice = f"Move those that are for {split} into a folder {split}."
    elif any(one.reason == TOO_SHORT for one in report.skipped):
        rate = "" if fps is None else f" at {fps:g} a second"
        advice = f"Add videos of at least {report.span} frames{rate}, or ask for shorter clips."
    elif splits:
        advice = "Repair some of these, or add others."
    else:
        advice = "Name a folder of videos (such as mp4 files), of folders of numbered images, or of arrays."
    return TrivdError(f"{root} has no usable video for the split {split!r}{where}.{why} {advice}")


def probe_all(entries: Sequence[Entry]) -> Iterator[tuple[Entry, VideoInfo | Skipped]]:
    """Probe videos in several threads; for one that cannot be used, the result is the reason."""

    def check(entry: Entry) -> VideoInfo | Skipped:
        try:
            return entry.video.probe()
        except UnreadableVideo as error:
            return Skipped(entry.name, error.reason, error.detail)
        except OSError as error:
            return Skipped(entry.name, "cannot be read", error.strerror or "")

    results = track(
        in_threads(check, entries, os.cpu_count() or 1),  # FFmpeg releases Python's global lock
        "Scanning videos",
        total=len(entries),
        console=Console(stderr=True),
        transient=True,
        disable=len(entries) < LONG_SCAN,
    )
    yield from zip(entries, results, strict=True)
