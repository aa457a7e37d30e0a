"""What lies in a folder, without what the system, tools and trivd itself keep there; read once, when it is asked for.

Left out without a word: names that begin with a dot, and those of `TOOL_NAMES`. Left out with a line: the folders that
trivd writes (runs, models, stores, predictions) and Python environments, known by what is in them; folders that cannot
be read; links that lead back to a folder above them.
"""

import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from trivd.data.scan_report import Skipped
from trivd.data.store.index import is_store
from trivd.runtime.files import read_json

TOOL_NAMES = frozenset(  # in small letters
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
    """Whether a file or folder is the system's or a tool's, not the user's."""
    return name.startswith(".") or name.casefold() in TOOL_NAMES


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is not hidden in a folder, in the order of the names. Raises OSError."""
    with os.scandir(folder) as inside:  # knows folders from files without asking for each
        return sorted((one for one in inside if not is_hidden(one.name)), key=lambda one: one.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; not a link that leads nowhere or round."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def printable(name: str) -> str:
    """A name as text: bytes that are not UTF-8 are written as \\xff, all others stay."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def what_made(folder: Path, names: Collection[str]) -> str | None:
    """What trivd, or Python, made the folder for; None for a folder of the user's.

    Args:
        folder: the folder.
        names: of all that is in it.
    """
    if "run.json" in names and ("log.jsonl" in names or "checkpoints" in names or _is_run(folder / "run.json")):
        return "the folder of a run"
    if "config.json" in names and "model.safetensors" in names:
        return "a saved model"
    if ("index.json" in names or "plan.json" in names) and _is_store(folder):
        return "a store made by `trivd prepare`"
    if "grid.png" in names and "sample-1.mp4" in names and "sample-1.gif" in names:
        return "a folder of predictions"
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
    """A folder and what is in it.

    Args:
        path: the folder.
        above: real paths of the folders that were passed on the way to it.
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
        """Why it cannot be read; None if it can."""
        return self._scanned if isinstance(self._scanned, OSError) else None

    @cached_property
    def made_for(self) -> str | None:
        """See `what_made`."""
        scanned = self._scanned
        return None if isinstance(scanned, OSError) else what_made(self.path, {one.name for one in scanned})

    @cached_property
    def inside(self) -> "list[Folder | Path]":
        """Folders and files in the order of their names; nothing of a folder that is left out."""
        if isinstance(self._scanned, OSError) or self.made_for is not None:
            return []
        return [
            Folder(self.path / one.name, self._above) if is_folder(one) else self.path / one.name
            for one in self._scanned
        ]

    @property
    def has_links(self) -> bool:
        """Whether links lie in it."""
        return not isinstance(self._scanned, OSError) and any(one.is_symlink() for one in self._scanned)

    @property
    def folders(self) -> "list[Folder]":
        """The folders in it but those that are left out."""
        return [one for one in self.inside if isinstance(one, Folder) and one.why_left_out is None]

    @property
    def files(self) -> list[Path]:
        """The files in it."""
        return [one for one in self.inside if isinstance(one, Path)]

    @property
    def why_left_out(self) -> Skipped | None:
        """Why nothing in it is used, if so; the name is for the caller to fill in."""
        if self.leads_back:
            return Skipped(self.name, "link to a folder that holds it")
        if self.error is not None:
            return Skipped(self.name, "cannot be read", self.error.strerror or "")
        return None if self.made_for is None else Skipped(self.name, self.made_for)
