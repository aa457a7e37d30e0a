"""Videos in a folder, as the user has them; the folder is only read.

Layout:
- `train/` and any of `validation/` (or `val/`, `valid/`) and `test/` are the splits. Without them, a stable hash of
  each video's path chooses; at least one video is held out where there are two.
- Sub-folders (of each split) are the classes, in alphabetical order; their videos may lie at any depth.
- Videos that lie directly beside each other, without sub-folders, carry no labels. So do all videos if some lie beside
  class folders, since their class is unknown.
- A folder of numbered images, without videos or folders in it, is one video, not a class. Hidden files are ignored.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.decode import VideoFile, is_video
from trivd.data.listing import Entry, Found
from trivd.data.report import Skipped
from trivd.data.source import Split
from trivd.errors import TrivdError

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}


def find_videos(root: Path, validation_share: float, limits: VideoLimits = DEFAULT_LIMITS) -> Found:
    """List the videos of a folder, with their splits and classes; none is opened.

    Raises:
        TrivdError: there is no such folder.
    """
    if not root.is_dir():
        raise TrivdError(f"{root} is not a folder; name one that holds videos.")
    folders = {name: split for name, split in SPLIT_FOLDERS.items() if (root / name).is_dir()}
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    if "train" in folders and len(folders) > 1:
        for name, split in folders.items():
            _list_split(root, root / name, split, limits, entries, skipped)
        names = " and ".join(folders)
        skipped += [Skipped(path.name, f"beside {names}") for path in _visible(root) if path.name not in folders]
        notes.append(f"split by the folders {names}")
    else:
        _list_split(root, root, "train", limits, entries, skipped)
        entries = _split_by_hash(entries, validation_share)
        notes.append(f"split by a hash of each path: {validation_share:.0%} for validation")
    classes = tuple(sorted({entry.class_name for entry in entries if entry.class_name is not None}))
    loose = sum(entry.class_name is None for entry in entries)
    if loose and classes:
        notes.append(f"no labels: {loose} videos lie beside the folders {', '.join(classes)}")
        classes = ()
    return Found(root, tuple(entries), classes, tuple(skipped), tuple(notes))


def _list_split(
    root: Path, folder: Path, split: Split, limits: VideoLimits, entries: list[Entry], skipped: list[Skipped]
) -> None:
    """Add what lies in the folder of one split; its sub-folders are the classes."""

    def add(path: Path, class_name: str | None) -> None:
        name = path.relative_to(root).as_posix()
        if is_video(path):
            entries.append(Entry(VideoFile(path, limits), name, split, class_name))
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
        entries.append(Entry(VideoFile(folder, limits), folder.relative_to(root).as_posix(), split, None))
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
