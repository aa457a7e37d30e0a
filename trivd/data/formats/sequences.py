"""The order of numbered images that form one video: their names differ in one number alone, which counts evenly.

Several sequences in one folder (two cameras, colour beside depth, JPEG beside PNG) are refused, never interleaved. The
varying part of the names is a count (frame_0001.png; in steps of two or five, too), decimal seconds
(1305031102.175.png), a date and time (2024-01-01_12-30-00.png), or a count beside a time that grows with it.
"""

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from trivd.data.formats.frames import UnreadableVideo

NUMBER = re.compile(r"([0-9]+)")
DATE_TIME = re.compile(
    r"(?<![0-9])((?:19|20)[0-9]{2})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12][0-9]|3[01])"
    r"(?:[-_T. ]*([01][0-9]|2[0-3])(?:[-_.:h]?([0-5][0-9])(?:[-_.:m]?([0-5][0-9])(?:[._]?([0-9]{1,6}))?)?)?)?(?![0-9])"
)
SMALLEST_TICKS = 10  # smallest steps of numbers that may be a clock's, whose steps vary slightly
LONGEST_PAUSE = 10  # of such a clock, in median steps
SAME_NUMBER = "images with the same number"
NAMED = 3  # sequences that a message lists


class _Name(NamedTuple):
    name: str
    texts: tuple[str, ...]  # before, between and after the numbers of the stem
    numbers: tuple[str, ...]

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1].lower()

    @property
    def kind(self) -> str:
        """The pattern that the names of one sequence share."""
        return "*".join(self.texts).casefold()


class _Uneven(Exception):  # noqa: N818
    """The numbers do not count evenly; the arguments are reason and detail."""


def in_sequence(folder: Path, names: Sequence[str]) -> list[str]:
    """The names of a folder's numbered images in their order.

    Raises:
        UnreadableVideo: they are not one sequence: their names follow several patterns, a number occurs twice, or
            numbers are missing.
    """
    images = [_parse(name) for name in names]
    kinds = sorted({image.kind for image in images})
    if len(kinds) > 1:
        groups = [[image for image in images if image.kind == kind] for kind in kinds[: NAMED + 1]]
        raise _several(folder, groups, len(kinds))
    problem: _Uneven | None = None
    for times in _readings(images):
        try:
            return _ordered(images, times)
        except _Uneven as error:
            problem = problem or error
    if problem is None:
        column = min(_varying(images), key=lambda place: len({int(image.numbers[place]) for image in images}))
        values = sorted({int(image.numbers[column]) for image in images})
        groups = [[image for image in images if int(image.numbers[column]) == value] for value in values[: NAMED + 1]]
        raise _several(folder, groups, len(values))
    suffixes = sorted({image.suffix for image in images})
    if len(suffixes) > 1 and problem.args[0] == SAME_NUMBER:
        raise _several(folder, [[image for image in images if image.suffix == suffix] for suffix in suffixes])
    raise UnreadableVideo(folder, *problem.args)


def _parse(name: str) -> _Name:
    parts = NUMBER.split(os.path.splitext(name)[0])
    return _Name(name, tuple(parts[::2]), tuple(parts[1::2]))


def _readings(images: list[_Name]) -> Iterator[list[int]]:
    """Interpretations of the names as one number each, the simplest first."""
    varying = _varying(images)
    if len(varying) <= 1:
        place = varying[0] if varying else 0
        yield [int(image.numbers[place]) for image in images]
    if len(varying) == 2 and varying[1] == varying[0] + 1 and images[0].texts[varying[1]] == ".":
        places = {len(image.numbers[varying[1]]) for image in images}
        if len(places) == 1:
            yield [int(image.numbers[varying[0]] + image.numbers[varying[1]]) for image in images]
    if (times := _times(images)) is not None:
        yield times
    for place in varying if len(varying) > 1 else ():
        rows = sorted(
            (int(image.numbers[place]), [int(image.numbers[other]) for other in varying if other != place])
            for image in images
        )
        if all(before[0] < after[0] and before[1] < after[1] for before, after in itertools.pairwise(rows)):
            yield [int(image.numbers[place]) for image in images]


def _varying(images: list[_Name]) -> list[int]:
    """Positions of the numbers that are not the same in all names."""
    columns = zip(*(image.numbers for image in images), strict=True)
    return [place for place, column in enumerate(columns) if len({int(number) for number in column}) > 1]


def _times(images: list[_Name]) -> list[int] | None:
    """Dates and times in the names, in microseconds; None unless all names have one and differ in it alone."""
    times, rests = [], set()
    for image in images:
        match = DATE_TIME.search(image.stem)
        if match is None:
            return None
        year, _, month, day, hour, minute, second, fraction = match.groups("0")
        try:
            time = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
        except ValueError:  # the 31st of February
            return None
        seconds = (time - datetime(1900, 1, 1)).total_seconds()
        times.append(int(seconds) * 1_000_000 + int(fraction.ljust(6, "0")))
        rests.add((image.stem[: match.start()], image.stem[match.end() :]))
    return times if len(rests) == 1 else None


def _ordered(images: list[_Name], times: list[int]) -> list[str]:
    """The names sorted by their times. Raises _Uneven."""
    rows = sorted(zip(times, (image.name for image in images), strict=True))
    steps = [after[0] - before[0] for before, after in itertools.pairwise(rows)]
    if steps and min(steps) == 0:
        place = steps.index(0)
        raise _Uneven(SAME_NUMBER, f"{rows[place][1]} and {rows[place + 1][1]}")
    if len(set(steps)) > 1:
        shortest, longest = min(steps), max(steps)
        is_clock = shortest >= SMALLEST_TICKS and any(step % shortest for step in steps)
        if not is_clock or longest > LONGEST_PAUSE * median(steps):
            place = steps.index(longest)
            gap = f"between {rows[place][1]} and {rows[place + 1][1]}"
            raise _Uneven(
                "numbers are missing among its images",
                f"{gap}; number the images anew if they follow each other, or give each part a folder of its own",
            )
    return [name for _, name in rows]


def _several(folder: Path, groups: list[list[_Name]], count: int | None = None) -> UnreadableVideo:
    """The error for several sequences, of which `groups` are the first."""
    patterns = ", ".join(_pattern(group) for group in groups[:NAMED])
    more = ", ..." if (count or len(groups)) > NAMED else ""
    return UnreadableVideo(folder, "several sequences in one folder", f"{patterns}{more}; give each its own folder")


def _pattern(group: list[_Name]) -> str:
    """The pattern of a sequence's names: camA_*.png."""
    varying, first = set(_varying(group)), group[0]
    numbers = ["*" if place in varying else number for place, number in enumerate(first.numbers)]
    parts = [first.texts[0]]
    for number, text in zip(numbers, first.texts[1:], strict=True):
        parts += [number, text]
    suffixes = {image.suffix for image in group}
    return "".join(parts) + (suffixes.pop() if len(suffixes) == 1 else ".*")
