"""Videos in a folder of the user's, which is only read.

Layout:
- Folders named after splits are the splits: `train/` and any of `validation/` and `test/`, in any spelling that
  `trivd.data.datasets.split_names` knows. They may lie in each class's folder instead, or together in one other
  folder. Without held-out videos, a stable hash of each path chooses some, at least one if there are two.
- Sub-folders (of each split) are the classes, in alphabetical order; their videos may lie at any depth.
- Videos without sub-folders carry no labels. If some lie beside class folders, no video carries a label, since theirs
  is unknown.
- A folder of numbered images, without videos or folders in it, is one video, not a class.
- Hidden files, those of tools, folders that trivd wrote, and what cannot be read are left out, see
  `trivd.data.datasets.tree`.
"""

import os
from dataclasses import replace
from pathlib import Path

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.datasets.split_names import disagree, matching_splits, plain_splits, split_of
from trivd.data.datasets.tree import Folder, printable
from trivd.data.formats.arrays import ARRAY_SUFFIXES
from trivd.data.formats.decode import VIDEO_SUFFIXES, VideoFile
from trivd.data.formats.images import is_numbered_image
from trivd.data.listing import Entry, Listing
from trivd.data.scan_report import Skipped
from trivd.data.splits import SPLITS, Split, hashed_splits
from trivd.runtime.errors import TrivdError
from trivd.runtime.words import counted

MOST_NAMED = 8  # folders in one sentence


def find_videos(root: Path, validation_share: float, limits: VideoLimits = DEFAULT_LIMITS) -> Listing:
    """List the videos of a folder, with their splits and classes; none is opened.

    Args:
        root: a folder, or a single video.
        validation_share: share of the videos that is held out if the folder holds out none.
        limits: limits on the size of videos.

    Raises:
        TrivdError: there is no such folder, it cannot be read, or it is unclear from the folders' names what is held
            out.
    """
    lister = _FolderLister(root, limits)
    if root.is_file():
        if not _is_video_file(root):
            raise TrivdError(f"{root} is not a video, nor a folder of videos; name one.")
        lister.entries.append(Entry(VideoFile(root, limits), printable(root.name), "train", None))
        return lister.listing(validation_share)
    if not root.is_dir():
        raise TrivdError(f"{root} is not a folder; name one that holds videos.")
    top = Folder(root)
    if top.error is not None:
        raise TrivdError(f"{root} cannot be read: {top.error.strerror}.")
    lister.add_all(top)
    return lister.listing(validation_share)


class _FolderLister:
    """Collector of the videos below a folder."""

    def __init__(self, root: Path, limits: VideoLimits) -> None:
        self.root = root
        self.limits = limits
        self.entries: list[Entry] = []
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []
        self.inner_splits: list[str] = []  # folders below the classes that are named like splits
        self.has_links = False

    def add_all(self, top: Folder) -> None:
        """Add the videos of a folder, by the splits that the names of its folders, or of those below, say."""
        base = _unwrapped(top)
        splits = _splits(base)
        outer = [folder for folder in base.folders if folder.name not in splits and _holds_videos(folder)]
        if not splits and (names := _unclear(base)):
            raise TrivdError(
                f"{base.path} holds {_joined(names)}, so it is unclear which videos are held out; move those to train "
                "on into a folder train, and held-out ones into validation or test. (A class needs another name.)"
            )
        if splits:
            self.add_splits(base, splits)
            said = _joined([_spelt(name, split) for name, split in splits.items()])
            is_open = all(entry.split == "train" for entry in self.entries)
            folders = "folders" if len(splits) > 1 else "folder"
            self.notes.append(f"no held-out videos in {said}" if is_open else f"split by the {folders} {said}")
        elif any(matching_splits(_names(folder)) for folder in outer):
            for one in base.inside:
                if one in outer and not _splits(one):
                    raise TrivdError(
                        f"{one.path} has no folders of splits, which others beside it have; move its videos into "
                        "train, validation or test there."
                    )
                if one in outer:
                    self.add_splits(one, _splits(one), one.name)
                else:
                    self.add(one, "train", None)
            self.notes.append("split by the folders in each class")
        else:
            self.add_split(base, "train")
            likely = [folder.name for folder in outer if split_of(folder.name) is not None]
            if likely := likely + self.inner_splits:
                self.notes.append(f"taken for classes or parts of them, not for splits: {_joined(likely)}")
        if base is not top:
            self.notes.append(f"all videos lie in {self.name(base.path)}")

    def add_splits(self, base: Folder, splits: dict[str, Split], class_name: str | None = None) -> None:
        """Add a folder of split folders; videos beside them are for training if there is no train folder."""
        self.has_links |= base.has_links
        names = _joined(list(splits))
        folders = {folder.name: folder for folder in base.folders}
        for name, split in splits.items():
            self.add_split(folders[name], split, class_name)
        for one in base.inside:
            is_left_out = isinstance(one, Folder) and one.why_left_out is not None
            if _path(one).name in splits:
                continue
            if "train" not in splits.values() or is_left_out:
                self.add(one, "train", class_name)
            else:
                self.skipped.append(Skipped(self.name(_path(one)), f"beside {names}"))

    def add_split(self, folder: Folder, split: Split, class_name: str | None = None) -> None:
        """Add the folder of one split; its sub-folders are the classes, unless a class is given for all."""
        self.has_links |= folder.has_links
        if _is_sequence(folder):
            self.entries.append(self.entry(folder.path, split, class_name))
        elif not folder.inside and folder.path != self.root:
            self.skipped.append(Skipped(self.name(folder.path), "empty folder"))
        for one in [] if _is_sequence(folder) else folder.inside:
            self.add(one, split, class_name)

    def add(self, one: Folder | Path, split: Split, class_name: str | None) -> None:
        """Add a file, or all files in a folder."""
        if isinstance(one, Path):
            if _is_video_file(one):
                self.entries.append(self.entry(one, split, class_name))
            else:
                self.skipped.append(Skipped(self.name(one), "not a video"))
        elif (left_out := one.why_left_out) is not None:
            if one.made_for is None:
                self.skipped.append(replace(left_out, name=self.name(one.path)))
            else:
                self.notes.append(f"left out {self.name(one.path)}: {left_out.reason}")
        elif _is_sequence(one):
            self.entries.append(self.entry(one.path, split, class_name))
        elif not one.inside:
            self.skipped.append(Skipped(self.name(one.path), "empty folder"))
        elif matching := matching_splits(_names(one)):
            raise TrivdError(
                f"{one.path} holds {_joined(list(matching))} below the classes; lay the splits at the top: "
                f"{', '.join(f'{name}/{one.name}' for name in matching)}."
            )
        else:
            if class_name is not None and plain_splits([one.name]):
                self.inner_splits.append(self.name(one.path))
            self.has_links |= one.has_links
            for inside in one.inside:
                self.add(inside, split, class_name or one.name)

    def entry(self, path: Path, split: Split, class_name: str | None) -> Entry:
        return Entry(VideoFile(path, self.limits), self.name(path), split, class_name and printable(class_name))

    def name(self, path: Path) -> str:
        """The path from the root, with forward slashes."""
        return printable(path.relative_to(self.root).as_posix())

    def listing(self, validation_share: float) -> Listing:
        """The listing of all that was added; without held-out videos, a hash chooses some."""
        if self.has_links:
            self.entries, repeated = _distinct(self.root, self.entries)
            self.skipped += repeated
        is_open = all(entry.split == "train" for entry in self.entries)
        if is_open:
            names = [entry.name for entry in self.entries]
            hashed = hashed_splits(names, validation_share)
            self.entries = [replace(entry, split=s) for entry, s in zip(self.entries, hashed, strict=True)]
            if len(self.entries) > 1:
                self.notes.append(f"split by a hash of each path: {validation_share:.0%} for validation")
        classes = tuple(sorted({entry.class_name for entry in self.entries if entry.class_name is not None}))
        loose = sum(entry.class_name is None for entry in self.entries)
        if loose and classes:
            self.notes.append(f"no labels: {counted(loose, 'video')} beside the folders {', '.join(classes)}")
            classes = ()
        entries, skipped, notes = tuple(self.entries), tuple(self.skipped), tuple(self.notes)
        return Listing(self.root, entries, classes, skipped, notes, validation_share if is_open else None)


def _distinct(root: Path, entries: list[Entry]) -> tuple[list[Entry], list[Skipped]]:
    """Each linked video once: a held-out entry is preferred to one for training, the video itself to a link."""
    top = os.path.realpath(root)
    folders = {folder: os.path.realpath(folder) for folder in {entry.video.path.parent for entry in entries}}
    real = {}
    for entry in entries:
        path = entry.video.path
        place = os.path.join(folders[path.parent], path.name)
        real[entry.name] = os.path.realpath(place) if os.path.islink(place) else place

    def is_linked(entry: Entry) -> bool:
        return real[entry.name] != os.path.join(top, entry.video.path.relative_to(root))

    first: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda one: (one.split == "train", is_linked(one))):
        first.setdefault(real[entry.name], entry)
    skipped = [
        Skipped(entry.name, "linked to a video that is used", first[real[entry.name]].name)
        for entry in entries
        if first[real[entry.name]] is not entry
    ]
    return [entry for entry in entries if first[real[entry.name]] is entry], skipped


def _unwrapped(folder: Folder) -> Folder:
    """The inner folder that holds the splits, if all videos lie in it; else the folder itself."""
    inner = folder
    while not any(map(_is_video_file, inner.files)):
        with_videos = [one for one in inner.folders if _holds_videos(one)]
        if len(with_videos) != 1:
            break
        (inner,) = with_videos
        if _splits(inner):
            return inner
    return folder


def _splits(folder: Folder) -> dict[str, Split]:
    """The folders in it that are the splits, training first; empty if there are none, or if it is unclear."""
    names = _names(folder)
    splits = matching_splits(names)
    if not splits:
        plain = plain_splits(names)
        others = [one for one in folder.folders if one.name not in plain and _holds_videos(one)]
        if plain and "train" not in plain.values():  # all but what is held out is for training, if it is the same kind
            kinds = {class_name for one in folder.folders if one.name in plain for class_name in _names(one)}
            if kinds <= {one.name for one in others} and (kinds or not others):
                others = []
        splits = {} if others else plain
    order = {split: place for place, split in enumerate(SPLITS)}
    return dict(sorted(splits.items(), key=lambda one: (order[one[1]], one[0])))


def _unclear(folder: Folder) -> list[str]:
    """Names of folders of held-out splits for which it is unclear what else is for training."""
    names = [one.name for one in folder.folders if _holds_videos(one)]
    held_out = [name for name, split in plain_splits(names).items() if split != "train"]
    if held_out:
        return [*held_out, *(name for name in names if name not in held_out)]
    return disagree(names)


def _is_video_file(path: Path) -> bool:
    return path.suffix.lower() in (*VIDEO_SUFFIXES, *ARRAY_SUFFIXES)


def _is_sequence(folder: Folder) -> bool:
    """Whether a folder is one video: numbered images without videos or folders beside them."""
    has_folders = any(isinstance(one, Folder) and one.made_for is None for one in folder.inside)
    return not has_folders and any(map(is_numbered_image, folder.files)) and not any(map(_is_video_file, folder.files))


def _holds_videos(folder: Folder) -> bool:
    return _is_sequence(folder) or any(map(_is_video_file, folder.files)) or any(map(_holds_videos, folder.folders))


def _names(folder: Folder) -> list[str]:
    return [one.name for one in folder.folders]


def _path(one: Folder | Path) -> Path:
    return one.path if isinstance(one, Folder) else one


def _joined(names: list[str]) -> str:
    """Names joined for a sentence, at most `MOST_NAMED` of them."""
    shown = [printable(name) for name in (names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], "others"])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 2 else shown)


def _spelt(name: str, split: Split) -> str:
    return printable(name) if name.casefold() == split else f"{printable(name)} ({split})"
