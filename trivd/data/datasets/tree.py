"""The contents of folders, without the files of the system, of tools and of trivd; each is read once, on first use.

Left out silently: names that begin with a dot, and those of `TOOL_NAMES`. Left out with a line in the report: folders
that trivd writes (runs, models, stores, predictions, comparisons) and Python environments, recognised by their
contents; folders that cannot be read; links that lead back to a folder above them.
"""

import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from trivd.data.scan_report import Skipped
from trivd.data.store.index import is_store
from trivd.runtime.files import read_json

TOOL_NAMES = frozenset(  # in lower case
    {
        "__macosx",  # macOS, in zip files
        "__pycache__",
        "node_modules",
        "thumbs.db",  # Windows, as the following
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",  # the top of a Linux disk
        "@eadir",  # Synology's disks
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP's disks
    }
)
LARGEST_RUN = 1 << 20  # bytes of a run.json


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system or a tool."""
    return name.startswith(".") or name.casefold() in TOOL_NAMES


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """The entries of a folder that are not hidden, sorted by name. Raises OSError."""
    with os.scandir(folder) as inside:  # tells folders from files without a system call for each
        return sorted((one for one in inside if not is_hidden(one.name)), key=lambda one: one.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; False for broken and circular links."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def printable(name: str) -> str:
    """A name as text; bytes that are not UTF-8 are written as \\xff."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def what_made(folder: Path, names: Collection[str]) -> str | None:
    """The purpose of a folder that trivd or Python made; None for a folder of the user's.

    Args:
        folder: the folder.
        names: names of all that is in it.
    """
    if "run.json" in names and ("log.jsonl" in names or "checkpoints" in names or _is_run(folder / "run.json")):
        return "the folder of a run"
    if "config.json" in names and "model.safetensors" in names:
        return "a saved model"
    if ("index.json" in names or "plan.json" in names) and _is_store(folder):
        return "a store made by `trivd prepare`"
    if "grid.png" in names and "sample-1.mp4" in names and "sample-1.gif" in names:
        return "a folder of predictions"
    if "comparison.html" in names and any(name.startswith("clip-") and name.endswith(".mp4") for name in names):
        return "a folder of comparisons"
    return "a Python environment" if "pyvenv.cfg" in names else None


def _is_run(path: Path) -> bool:
    try:
        return {"config", "data"} <= set(read_json(path, LARGEST_RUN))
    except (OSError, ValueError, TypeError):
        return False


def _is_store(folder: Path) -> bool:
    try:
        return is_store(folder)
    except OSError:
        return False


class Folder:
    """A folder and its contents.

    Args:
        path: the folder.
        above: real paths of the folders that lead to it.
    """

    def __init__(self, path: Path, above: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.name = path.name
        real = os.path.realpath(path)
        self.leads_back = real in above
        self._above = above | {real}

    @cached_property
    def _scanned(self) -> list[os.DirEntry[str]] | OSError:
        try:
            return [] if self.leads_back else scan(self.path)
        except OSError as error:
            return error

    @property
    def error(self) -> OSError | None:
        """The error if the folder cannot be read."""
        return self._scanned if isinstance(self._scanned, OSError) else None

    @cached_property
    def made_for(self) -> str | None:
        """See `what_made`."""
        scanned = self._scanned
        return None if isinstance(scanned, OSError) else what_made(self.path, {one.name for one in scanned})

    @cached_property
    def inside(self) -> "list[Folder | Path]":
        """Folders and files, sorted by name; empty for a folder that is left out."""
        if isinstance(self._scanned, OSError) or self.made_for is not None:
            return []
        return [
            Folder(self.path / one.name, self._above) if is_folder(one) else self.path / one.name
            for one in self._scanned
        ]

    @property
    def has_links(self) -> bool:
        """Whether the folder holds links."""
        return not isinstance(self._scanned, OSError) and any(one.is_symlink() for one in self._scanned)

    @property
    def folders(self) -> "list[Folder]":
        """The folders in it, except those that are left out."""
        return [one for one in self.inside if isinstance(one, Folder) and one.why_left_out is None]

    @property
    def files(self) -> list[Path]:
        """The files in it."""
        return [one for one in self.inside if isinstance(one, Path)]

    @property
    def why_left_out(self) -> Skipped | None:
        """The reason why the folder is left out, or None; the caller fills in the name."""
        if self.leads_back:
            return Skipped(self.name, "link to a folder that holds it")
        if self.error is not None:
            return Skipped(self.name, "cannot be read", self.error.strerror or "")
        return None if self.made_for is None else Skipped(self.name, self.made_for)
