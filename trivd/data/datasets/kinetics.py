"""Kinetics-600 (Carreira et al. 2018): clips of YouTube videos, and the lists that give each its split and class.

Layout, as CVDF offers it:
- `train/`, `val/` and `test/` with `{youtube_id}_{start:06d}_{end:06d}.mp4`, directly or in a folder per label; one
  folder for all will do. Files in `replacement/` take the place of those of the same name.
- lists: `*.csv` beside them, in `annotations/` or in `kinetics600/`, with the columns youtube_id, time_start, time_end,
  split, and mostly label. The column decides on the split, wherever the file lies.
Without lists, it is a folder of videos like any other.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.datasets.annotations import bad_line, text_lines
from trivd.data.datasets.folder import find_videos
from trivd.data.datasets.tree import is_folder, printable, scan, what_made
from trivd.data.formats.decode import VIDEO_SUFFIXES, VideoFile
from trivd.data.listing import Entry, Listing
from trivd.data.scan_report import Skipped
from trivd.data.splits import Split
from trivd.runtime.errors import TrivdError

COLUMNS = ("youtube_id", "time_start", "time_end", "split")
LABEL = "label"  # the column that lists of the test split may lack
SPLITS: dict[str, Split] = {  # by their names in lists, and by the names of lists
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "validate": "validation",
}
LIST_FOLDERS = ("", "annotations", "kinetics600")  # the last is what DeepMind's archive of lists unpacks to
REPLACEMENT = "replacement"
CLIP = re.compile(r"[\w-]{11}_\d{6}_\d{6}", re.ASCII)  # a file's name without suffix
YOUTUBE_ID = re.compile(r"[\w-]{11}", re.ASCII)
SECONDS = re.compile(r"\d{1,6}", re.ASCII)
OFFICIAL: dict[Split, int] = {"train": 390_000, "validation": 30_000, "test": 60_000}  # about, in its lists


class _Listed(NamedTuple):
    """A video in a list, and the line that lists it."""

    split: Split
    label: str | None
    list: Path
    line: int


def is_kinetics(root: Path) -> bool:
    """Whether a folder holds the data set, by the columns of a list or the name of its first video."""
    return any(set(COLUMNS) <= set(_header(path)) for path in _csv_files(root)) or _is_named_so(root)


def find_kinetics(root: Path, validation_share: float, limits: VideoLimits = DEFAULT_LIMITS) -> Listing:
    """List the videos in the order of the lists; the folders are read once, and no file is opened.

    Args:
        root: the folder that holds the videos' folders.
        validation_share: share of all videos that is held out if there are neither lists nor folders of splits.
        limits: limits on the size of videos.

    Raises:
        TrivdError: there are neither lists nor videos named ID_START_END, or a line of a list is wrong.
    """
    lists = [path for path in _csv_files(root) if COLUMNS[0] in _header(path) or path.stem.lower() in SPLITS]
    if not lists:
        if not _is_named_so(root):
            raise TrivdError(
                f"{root} holds neither lists of Kinetics (*.csv with {', '.join(COLUMNS)}) nor videos named "
                "ID_START_END.mp4; name the folder that holds them, or choose another data.layout."
            )
        found = find_videos(root, validation_share, limits)
        return replace(found, notes=(*found.notes, "no lists: splits and classes are those of the folders"))
    listed, repeated = read_lists(lists)
    files, skipped = _files(root, {str(path) for path in lists})
    entries = []
    for clip, row in listed.items():
        path = files.pop(clip, None)
        if path is None:
            skipped.append(Skipped(f"{clip}.mp4", "missing", row.split))
        else:
            entries.append(Entry(VideoFile(Path(path), limits), _name(root, path), row.split, row.label))
    skipped += [Skipped(_name(root, path), "in no list") for path in files.values()]
    there, wanted = (Counter(one.split for one in many) for many in (entries, listed.values()))
    notes = [
        f"{split}: {there[split]:,} of {wanted[split]:,} listed videos (about {OFFICIAL[split]:,} in the data set)"
        for split in OFFICIAL
    ]
    if repeated:
        notes.append(f"{repeated:,} rows repeat others")
    classes = tuple(sorted({row.label for row in listed.values() if row.label}))
    without = sorted({row.list.name for row in listed.values() if row.label is None})
    if classes and without:  # 0 would be a class
        notes.append(f"no labels: {', '.join(without)} has none; take DeepMind's list, or remove it, to have classes")
        classes = ()
    return Listing(root, tuple(entries), classes, tuple(skipped), tuple(notes))


def read_lists(paths: list[Path]) -> tuple[dict[str, _Listed], int]:
    """The rows of all lists by clip, `{youtube_id}_{start:06d}_{end:06d}`, and the number of repeated rows.

    Raises:
        TrivdError: a list is wrong, or two rows contradict each other.
    """
    listed: dict[str, _Listed] = {}
    repeated = 0
    for path in paths:
        for clip, row in _rows(path):
            known = listed.setdefault(clip, row)
            if known is row:
                continue
            if known.split != row.split or (known.label and row.label and known.label != row.label):
                other = f"{known.split}, {known.label} in {known.list}, line {known.line}"
                raise bad_line(path, row.line, f"{clip} is {row.split}, {row.label} here but {other}")
            listed[clip] = known if known.label else row
            repeated += 1
    return listed, repeated


def _rows(path: Path) -> Iterator[tuple[str, _Listed]]:
    reader = csv.reader(text_lines(path), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing or len(set(header)) < len(header):
            columns = f"there is no column {', '.join(missing)}" if missing else "a column is there twice"
            raise bad_line(path, 1, f"{columns}; a list of Kinetics has {LABEL}, {', '.join(COLUMNS)}")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise bad_line(path, reader.line_num, f"{len(values)} values under {len(header)} columns")
            row = dict(zip(header, (value.strip() for value in values), strict=True))
            youtube_id, start, end, split = (row[name] for name in COLUMNS)
            if not YOUTUBE_ID.fullmatch(youtube_id):
                raise bad_line(path, reader.line_num, f"{youtube_id[:80]!r} is no youtube_id")
            if not (SECONDS.fullmatch(start) and SECONDS.fullmatch(end)):
                raise bad_line(path, reader.line_num, f"{start[:80]!r} to {end[:80]!r} are no whole seconds")
            if split not in SPLITS:
                known = f"they are {', '.join(SPLITS)}, and lists of others do not belong here"
                raise bad_line(path, reader.line_num, f"{split[:80]!r} is no split: {known}")
            clip = f"{youtube_id}_{int(start):06d}_{int(end):06d}"
            yield clip, _Listed(SPLITS[split], row.get(LABEL) or None, path, reader.line_num)
    except csv.Error as error:
        raise bad_line(path, reader.line_num, f"it is not a row of CSV ({error})") from error


def _csv_files(root: Path) -> list[Path]:
    return sorted(path for name in LIST_FOLDERS for path in (root / name).glob("*.csv") if path.is_file())


def _header(path: Path) -> list[str]:
    """Names of a file's columns; empty if it is not CSV."""
    try:
        return [name.strip() for name in next(csv.reader(text_lines(path)), [])]
    except (TrivdError, csv.Error):
        return []


def _files(root: Path, lists: set[str]) -> tuple[dict[str, str], list[Skipped]]:
    """Paths of all videos by their names without suffix, and the other files in the folders."""
    files: dict[str, str] = {}
    skipped: list[Skipped] = []
    for path, is_replacement in _walk(root, str(root), skipped):
        stem, suffix = os.path.splitext(os.path.basename(path))
        if suffix.lower() not in VIDEO_SUFFIXES:
            if path not in lists:
                skipped.append(Skipped(_name(root, path), "not a video"))
        elif stem not in files:
            files[stem] = path
        else:
            unused = files[stem] if is_replacement else path
            files[stem] = path if is_replacement else files[stem]
            skipped.append(Skipped(_name(root, unused), "replaced" if is_replacement else "second copy"))
    return files, skipped


def _name(root: Path, path: str) -> str:
    """Path relative to the root, with forward slashes; much faster than pathlib for half a million files."""
    return printable(path[len(os.path.join(root, "")) :].replace(os.sep, "/"))


def _walk(
    root: Path, folder: str, skipped: list[Skipped], is_replacement: bool = False, above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, bool]]:
    """All files under a folder in a fixed order, those in a folder `replacement` after their neighbours.

    Links back to a folder among the real paths `above` are not followed. Folders that cannot be read, and those that
    trivd wrote, are added to `skipped`. Raises OSError only for the root.
    """
    real = os.path.realpath(folder)
    try:
        inside = [] if real in above else sorted(scan(folder), key=lambda one: (one.name == REPLACEMENT, one.name))
    except OSError as error:
        if folder == str(root):
            raise
        skipped.append(Skipped(_name(root, folder), "cannot be read", error.strerror or ""))
        return
    if (made_for := what_made(Path(folder), {one.name for one in inside})) is not None:
        skipped.append(Skipped(_name(root, folder), made_for))
        return
    for one in inside:
        if is_folder(one):
            yield from _walk(root, one.path, skipped, is_replacement or one.name == REPLACEMENT, above | {real})
        else:
            yield one.path, is_replacement


def _is_named_so(root: Path) -> bool:
    """Whether the first video is named as a clip of the data set."""
    videos = (os.path.splitext(os.path.basename(path)) for path, _ in _walk(root, str(root), []))
    first = next((stem for stem, suffix in videos if suffix.lower() in VIDEO_SUFFIXES), "")
    return CLIP.fullmatch(first) is not None
