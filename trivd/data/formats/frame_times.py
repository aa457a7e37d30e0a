"""Presentation times of a video's frames, and the frames to show for the video to have another rate.

Frame n of a video that is read at f frames a second shows time n / f, counted from the first frame: it is the frame
whose time is nearest, of two that are equally near the earlier one. The video ends when its last frame does, and has
as many frames as fit before, rounded to the nearest number. All of it is exact, since times are whole numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

LARGEST_DENOMINATOR = 1001  # of a rate: 30000/1001 is the largest in use
MOST_REORDERED = 16  # places by which codecs store a frame early (H.264: max_dec_frame_buffering)


@dataclass(frozen=True)
class FrameTimes:
    """The times at which the frames of a video are shown."""

    stamps: NDArray[np.int64]  # of each frame, strictly ascending; the first may be any number
    unit: Fraction  # seconds
    last: int  # how long the last frame is shown, in the same unit
    evenly: bool = False  # whether the file has no usable time stamps, only a rate

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        return (int(self.stamps[-1]) - int(self.stamps[0]) + self.last) * self.unit

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        return float(len(self.stamps) / self.duration)

    def count(self, fps: float) -> int:
        """Number of frames at another rate, at least one."""
        return max(1, int(self.duration * exact_rate(fps) + Fraction(1, 2)))

    def nearest(self, fps: float, start: int, stride: int) -> Iterator[int]:
        """Numbers of the frames that are shown as frames start, start + stride, ... at another rate, to the end."""
        stamps, first, final = self.stamps, int(self.stamps[0]), int(self.stamps[-1])
        step = 1 / (exact_rate(fps) * self.unit)  # from frame to frame at that rate, in units
        for number in range(start, self.count(fps), stride):
            time = number * step.numerator  # after the first frame, in units / step.denominator
            later = int(np.searchsorted(stamps, min(first + time // step.denominator, final), side="right"))
            if later < len(stamps):
                earlier_and_later = int(stamps[later - 1]) + int(stamps[later]) - 2 * first
                yield later if earlier_and_later * step.denominator < 2 * time else later - 1
            else:
                yield later - 1


def exact_rate(fps: float) -> Fraction:
    """A setting as an exact rate: 29.97 is 2997/100."""
    return Fraction(fps).limit_denominator(LARGEST_DENOMINATOR)


def frame_times(
    stamps: list[int | None] | NDArray[np.int64], last: int, unit: Fraction | None, rate: Fraction | None
) -> FrameTimes | None:
    """The times of frames by their time stamps; evenly spaced if some are missing, equal or out of order.

    Decoders that know no time stamps number B-frames in the order of the file, by a few places too early or late;
    these are put in order.

    Args:
        stamps: of all frames, at least one, in the order in which they are shown: a list of what a decoder gives, or an
            array that is known to ascend.
        last: duration of the last frame; 0 if it is not known, and then the median of the others is taken.
        unit: of the stamps, in seconds.
        rate: frames a second, as the header says.

    Returns:
        the times; None if there are neither time stamps nor a rate.
    """
    ordered = _in_order(stamps) if isinstance(stamps, list) else stamps
    if unit is None or unit <= 0 or ordered is None:
        return FrameTimes(np.arange(len(stamps)), 1 / rate, 1, evenly=True) if rate else None
    if last <= 0 and len(ordered) > 1:
        steps = np.diff(ordered.astype(np.uint64))  # of 64 bits, as the stamps may be any numbers
        last = int(np.partition(steps, len(steps) // 2)[len(steps) // 2])
    elif last <= 0:
        last = round(1 / (rate * unit)) if rate else 1
    return FrameTimes(ordered, unit, max(1, last))


def _in_order(stamps: list[int | None]) -> NDArray[np.int64] | None:
    """The stamps in ascending order; None if one is missing, if two are equal, or if they are far out of order."""
    if None in stamps:
        return None
    given = np.array(stamps, np.int64)
    order = np.argsort(given, kind="stable")
    ordered = given[order]
    is_local = np.abs(order - np.arange(len(order))).max() <= MOST_REORDERED
    return ordered if is_local and (ordered[1:] > ordered[:-1]).all() else None
