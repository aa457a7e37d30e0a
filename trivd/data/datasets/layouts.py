"""Recognition of a folder's layout, and the listing of its videos.

The paper's data sets are recognised in the layouts in which they are distributed; any other folder is one of videos.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trivd.config import DataConfig, Layout
from trivd.data.datasets.bair import find_bair, is_bair
from trivd.data.datasets.folder import find_videos
from trivd.data.datasets.kinetics import find_kinetics, is_kinetics
from trivd.data.datasets.tree import Folder
from trivd.data.datasets.ucf101 import find_ucf101, is_ucf101
from trivd.data.formats.decode import VideoFile
from trivd.data.listing import Entry, Listing
from trivd.data.splits import balanced_splits
from trivd.runtime.errors import TrivdError

OWN_RATES = "every video keeps its own frames; the paper's Kinetics-600 has 25 frames a second (fps 25)"
RECOGNISED: dict[Layout, Callable[[Path], bool]] = {"bair": is_bair, "ucf101": is_ucf101, "kinetics600": is_kinetics}


def find(root: Path, data: DataConfig) -> Listing:
    """List the videos of a data set in the layout `data.layout`, without opening them.

    A single video file is a data set of one video. With `data.fps`, video files are read at that rate. With
    `data.balanced_split`, training keeps the first 70% of its videos, and all others are test videos (C.1).

    Raises:
        TrivdError: there is no such folder, trivd wrote it, or it does not fit the layout; the message says why.
    """
    if not (root.is_dir() or root.is_file()):
        raise TrivdError(f"{root} is not a folder; name one that holds videos.")
    try:
        if root.is_dir() and (made_for := Folder(root).made_for) is not None:
            raise TrivdError(f"{root} is {made_for}, not data to read videos from; name the folder of the videos.")
        layout = "folder" if root.is_file() else recognise(root) if data.layout == "auto" else data.layout
        match layout:
            case "bair":
                found = find_bair(root, data.bair_camera, data.limits)
            case "ucf101":
                found = find_ucf101(root, data.ucf101_fold, data.limits)
            case "kinetics600":
                found = find_kinetics(root, data.validation_share, data.limits)
            case _:
                found = find_videos(root, data.validation_share, data.limits)
    except OSError as error:
        raise TrivdError(f"{error.filename} cannot be read: {error.strerror}.") from error
    found = replace(found, notes=(f"layout {layout}", *found.notes), fps=data.fps)
    if layout == "kinetics600" and data.fps is None:
        found = replace(found, notes=(*found.notes, OWN_RATES))
    if data.fps is not None:
        found = replace(found, entries=tuple(_at_rate(entry, data.fps) for entry in found.entries))
    return _balance(found) if data.balanced_split else found


def recognise(root: Path) -> Layout:
    """The layout of a folder: BAIR's by its record files, UCF-101's and Kinetics' by their lists, else "folder"."""
    return next((layout for layout, fits in RECOGNISED.items() if fits(root)), "folder")


def _at_rate(entry: Entry, fps: float) -> Entry:
    """An entry whose video is read at a rate; records have no times."""
    return replace(entry, video=replace(entry.video, fps=fps)) if isinstance(entry.video, VideoFile) else entry


def _balance(found: Listing) -> Listing:
    splits = balanced_splits([entry.split for entry in found.entries])
    entries = tuple(replace(entry, split=split) for entry, split in zip(found.entries, splits, strict=True))
    count = Counter(splits)
    return replace(
        found,
        entries=entries,
        validation_share=None,
        notes=(*found.notes, f"balanced split: {count['train']:,} train, {count['test']:,} test"),
    )
