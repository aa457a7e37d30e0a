"""The report of a scan: what a data set holds, and what was skipped, in lines for the user."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from trivd.data.formats.frames import VideoInfo
from trivd.runtime.words import counted

REPEATS = 0.995  # share of the wanted rate below which a video's own is called lower
LISTED = 20  # skipped files, and classes, that are named individually


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is not used."""

    name: str
    reason: str  # a few words, shared by all that are skipped for the same reason
    detail: str = ""  # particulars of this one

    def __str__(self) -> str:
        return f"skipped {self.name}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class ScanReport:
    """The videos that are used, and what was skipped."""

    title: str  # place and split
    classes: tuple[str, ...]
    lengths: tuple[int, ...]  # frames of each video that is used
    span: int  # consecutive frames that a clip spans; 1 if the report is not about clips
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = field(default=())  # anything else worth a line

    @property
    def clips(self) -> int:
        """Number of non-overlapping windows of `span` frames."""
        return sum(length // self.span for length in self.lengths)

    @property
    def reasons(self) -> str:
        """The number skipped for each reason: "2 truncated, 1 zero bytes"; empty if none was."""
        return ", ".join(f"{n:,} {reason}" for reason, n in Counter(s.reason for s in self.skipped).most_common())

    def lines(self) -> list[str]:
        """Totals, notes, and some of what was skipped, the rarest reasons first, with its totals."""
        more_classes = ", ..." if len(self.classes) > LISTED else ""
        names = ", ".join(self.classes[:LISTED]) + more_classes
        classes = f"{counted(len(self.classes), 'class')}: {names}" if self.classes else "no classes"
        clips = f"{counted(self.clips, 'window')} of {self.span} frames, " if self.span > 1 else ""
        videos, frames = counted(len(self.lengths), "video"), counted(sum(self.lengths), "frame")
        sums = f"{self.title}: {videos}, {frames}, {clips}{classes}"
        same = Counter(one.reason for one in self.skipped)
        skipped = sorted(self.skipped, key=lambda one: same[one.reason])[:LISTED]
        more = [f"... and {len(self.skipped) - LISTED:,} more"] if len(self.skipped) > LISTED else []
        total = [f"skipped {len(self.skipped):,}: {self.reasons}"] if self.skipped else []
        lines = [sums, *self.notes, *map(str, skipped), *more, *total]
        return [line.replace("\n", "\N{SYMBOL FOR NEWLINE}") for line in lines]  # names may hold some


def rate_notes(videos: Sequence[VideoInfo], fps: float | None) -> tuple[str, ...]:
    """Lines about the rate at which videos are read, and those that do not have it; none without a rate."""
    if fps is None:
        return ()
    rates = [info.rate for info in videos if info.rate is not None]
    numbers = {
        f"of fewer than {fps:g} frames a second: frames are repeated": sum(rate < REPEATS * fps for rate in rates),
        "without usable time stamps: frames are evenly spaced, at the rate of the header": sum(
            info.evenly for info in videos
        ),
        "without times (images, arrays or records): frames are taken as they are": len(videos) - len(rates),
    }
    notes = [f"{counted(number, 'video')} {text}" for text, number in numbers.items() if number]
    return (f"read at {fps:g} frames a second", *notes) if rates else tuple(notes)
