"""What a data set was found to hold, in lines for the user."""

from collections import Counter
from dataclasses import dataclass, field

LISTED = 20  # skipped files, and classes, that are named one by one


@dataclass(frozen=True)
class Skipped:
    """Something in the data's place that is not used."""

    name: str
    reason: str  # a few words, shared by all that are skipped for it
    detail: str = ""  # what is particular to this one

    def __str__(self) -> str:
        return f"skipped {self.name}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class ScanReport:
    """What was found, used and skipped."""

    title: str  # where, and which split
    classes: tuple[str, ...]
    lengths: tuple[int, ...]  # frames of each video that is used
    span: int  # frames of the video that a clip reaches over; 1 if it is not about clips
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = field(default=())  # anything else worth a line

    @property
    def clips(self) -> int:
        """Windows of `span` frames that do not overlap."""
        return sum(length // self.span for length in self.lengths)

    @property
    def reasons(self) -> str:
        """How many were skipped for each reason: "2 truncated, 1 zero bytes"; empty if none was."""
        return ", ".join(f"{n:,} {reason}" for reason, n in Counter(s.reason for s in self.skipped).most_common())

    def lines(self) -> list[str]:
        """The report, the sums first; of what is skipped, some, the rarest reasons first, and the sums."""
        more_classes = ", ..." if len(self.classes) > LISTED else ""
        names = ", ".join(self.classes[:LISTED]) + more_classes
        classes = f"{len(self.classes)} classes: {names}" if self.classes else "no classes"
        clips = f"{self.clips:,} windows of {self.span} frames, " if self.span > 1 else ""
        sums = f"{self.title}: {len(self.lengths):,} videos, {sum(self.lengths):,} frames, {clips}{classes}"
        same = Counter(one.reason for one in self.skipped)
        skipped = sorted(self.skipped, key=lambda one: same[one.reason])[:LISTED]
        more = [f"... and {len(self.skipped) - LISTED:,} more"] if len(self.skipped) > LISTED else []
        total = [f"skipped {len(self.skipped):,}: {self.reasons}"] if self.skipped else []
        lines = [sums, *self.notes, *map(str, skipped), *more, *total]
        return [line.replace("\n", "\N{SYMBOL FOR NEWLINE}") for line in lines]  # names may hold some
