"""UCF-101 (Soomro et al. 2012): 13,320 videos of 101 classes, and the lists of its three folds.

Layout: `UCF-101/<class>/v_<class>_gXX_cYY.avi`, and in `ucfTrainTestlist/` beside it `classInd.txt`
("1 ApplyEyeMakeup"), `trainlist0N.txt` ("<class>/<file> 1") and `testlist0N.txt` ("<class>/<file>"). The lists may also
lie among the class folders, or beside the folder that holds these.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.datasets.annotations import bad_line, text_lines
from trivd.data.datasets.tree import is_folder, printable, scan
from trivd.data.formats.decode import VideoFile
from trivd.data.listing import Entry, Listing
from trivd.data.scan_report import Skipped
from trivd.data.splits import Split
from trivd.runtime.errors import TrivdError

VIDEOS = ("UCF-101", "UCF101")
LISTS = "ucfTrainTestlist"
CLASSES = "classInd.txt"
LIST_FILES: dict[Split, str] = {"train": "trainlist0{fold}.txt", "test": "testlist0{fold}.txt"}
OFFICIAL: dict[int, dict[Split, int]] = {  # videos in the lists of each fold
    1: {"train": 9_537, "test": 3_783},
    2: {"train": 9_586, "test": 3_734},
    3: {"train": 9_624, "test": 3_696},
}
CLASS_LINE = re.compile(r"(\d{1,4})\s+(\w+)", re.ASCII)
VIDEO_LINE = re.compile(r"(\w+)/(\w+\.avi)(?:\s+(\d{1,4}))?", re.ASCII)


def is_ucf101(root: Path) -> bool:
    """Whether a folder holds the data set, by its lists; those beside it count if it is named after the data set."""
    folders = _list_folders(root)
    near = folders if root.absolute().name in VIDEOS else folders[:2]
    names = [CLASSES, *(LIST_FILES["train"].format(fold=fold) for fold in OFFICIAL)]
    return any((folder / name).is_file() for folder in near for name in names)


def find_ucf101(root: Path, fold: int, limits: VideoLimits = DEFAULT_LIMITS) -> Listing:
    """List the videos of a fold in the order of its lists; the class folders are read once, and no file is opened.

    Args:
        root: the folder that holds the class folders, or UCF-101.
        fold: 1, 2 or 3.
        limits: limits on the size of videos.

    Raises:
        TrivdError: a list is missing, or a line of it, which is named, is wrong.
    """
    videos = next((root / name for name in VIDEOS if (root / name).is_dir()), root)
    classes = _read_classes(_find_list(root, CLASSES))
    prefix = "" if videos == root else f"{videos.name}/"
    unlisted, skipped = _avi_files(videos, classes, prefix)
    entries: list[Entry] = []
    notes = [f"fold {fold}"]
    listed: set[str] = set()
    for split, file in LIST_FILES.items():
        path = _find_list(root, file.format(fold=fold))
        there, before = len(entries), len(listed)
        for line, class_name, video in _read_list(path, classes):
            if video in listed:
                raise bad_line(path, line, f"{video} is listed before")
            listed.add(video)
            if video in unlisted:
                unlisted.remove(video)
                entries.append(Entry(VideoFile(videos / video, limits), prefix + video, split, class_name))
            else:
                skipped.append(Skipped(prefix + video, "missing", split))
        counts = f"{len(entries) - there:,} of {len(listed) - before:,} listed videos"
        notes.append(f"{split}: {counts} ({OFFICIAL[fold][split]:,} in the data set)")
    skipped += [Skipped(printable(prefix + video), "in no list") for video in sorted(unlisted)]
    return Listing(root, tuple(entries), tuple(classes), tuple(skipped), tuple(notes))


def _list_folders(root: Path) -> list[Path]:
    """Folders that are searched for lists, in this order."""
    beside = root.absolute().parent
    return [root, root / LISTS, beside, beside / LISTS]


def _find_list(root: Path, name: str) -> Path:
    folders = _list_folders(root)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise TrivdError(
        f"UCF-101's {name} is missing, looked for in {', '.join(map(str, folders))}; "
        f"unpack UCF101TrainTestSplits-RecognitionTask.zip into {root}."
    )


def _read_classes(path: Path) -> list[str]:
    """Names of the classes in the order of their numbers, which count from 1."""
    classes: list[str] = []
    for line, text in enumerate(text_lines(path), start=1):
        if not text.strip():
            continue
        match = CLASS_LINE.fullmatch(text.strip())
        if match is None or int(match[1]) != len(classes) + 1 or match[2] in classes:
            raise bad_line(path, line, f"expected '{len(classes) + 1} NAME' with a new name")
        classes.append(match[2])
    if not classes:
        raise TrivdError(f"{path} lists no class; download the list again.")
    return classes


def _read_list(path: Path, classes: list[str]) -> Iterator[tuple[int, str, str]]:
    """Line number, class and "class/file" of each video."""
    numbers = {name: str(number) for number, name in enumerate(classes, start=1)}
    for line, text in enumerate(text_lines(path), start=1):
        if not text.strip():
            continue
        match = VIDEO_LINE.fullmatch(text.strip())
        if match is None:
            raise bad_line(path, line, "expected CLASS/FILE.avi, and the number of the class in a list for training")
        class_name, file, number = match.groups()
        if class_name not in numbers:
            raise bad_line(path, line, f"{CLASSES} has no class {class_name}")
        if number not in (None, numbers[class_name]):
            raise bad_line(path, line, f"{class_name} has the number {numbers[class_name]} in {CLASSES}, not {number}")
        yield line, class_name, f"{class_name}/{file}"


def _avi_files(videos: Path, classes: list[str], prefix: str) -> tuple[set[str], list[Skipped]]:
    """The videos in the class folders, "class/file", and the other files."""
    there: set[str] = set()
    skipped = []
    for folder in scan(videos):
        if folder.name in classes:
            try:
                inside = scan(folder.path)
            except OSError as error:
                skipped.append(Skipped(prefix + folder.name, "cannot be read", error.strerror or ""))
                continue
            for file in inside:
                if file.name.endswith(".avi"):
                    there.add(f"{folder.name}/{file.name}")
                else:
                    skipped.append(Skipped(printable(f"{prefix}{folder.name}/{file.name}"), "not a video"))
        elif folder.name != LISTS and is_folder(folder):
            skipped.append(Skipped(printable(prefix + folder.name), f"not a class of {CLASSES}"))
    return there, skipped
