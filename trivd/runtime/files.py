"""Files written atomically and read defensively, digests of settings, and the library's folder."""

import errno
import hashlib
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trivd.runtime.errors import TrivdError, is_disk_full

ANOTHER_OUT = "choose another --out"
# Held while NumPy reads an array's header: Python's parser of literals (ast) fails now and then in several threads at
# once, with a SystemError or RecursionError.
ARRAY_HEADER_LOCK = threading.Lock()


def write_atomically(path: Path | str, data: bytes, *, lasting: bool = True) -> None:
    """Write `data` to `path` and create its folder; a reader or an interruption never sees half a file.

    Args:
        path: of the file.
        data: its content.
        lasting: whether the file is on the disk when this returns, and survives a power cut; many small files are
            written in far less time without.

    Raises:
        OSError: the folder cannot be created or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())  # else the name might survive a power cut, and the bytes not
        os.replace(temporary, path)
        if lasting:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Temporary name of a file, in the same folder, since os.replace must not cross disks."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def check_output_file(path: Path, way_out: str = ANOTHER_OUT) -> None:
    """Refuse a file that `write_atomically` could not write, before work is done for it; nothing is left behind.

    Args:
        path: file to be written; it may exist, and its folder need not.
        way_out: end of the message, which names the remedy.

    Raises:
        TrivdError: it cannot be written, or is a folder, a device or a pipe.
    """
    try:
        if path.is_dir():
            raise TrivdError(f"{path} is a folder, not a file; {way_out}.")
        if path.exists() and not path.is_file():
            raise TrivdError(f"{path} is no ordinary file; {way_out}.")
        _check_place(_temporary(path))
    except OSError as error:
        raise _cannot_be_written(path, error, way_out) from error


def check_output_folder(folder: Path, way_out: str = ANOTHER_OUT, empty: bool = False) -> None:
    """Refuse a folder in which no files could be written; nothing is created or left behind.

    Args:
        folder: folder to write in; it need not exist.
        way_out: end of the message, which names the remedy.
        empty: whether the folder must be empty.

    Raises:
        TrivdError: it cannot be created or written, is not a folder, or is not empty.
    """
    try:
        if os.path.lexists(folder) and not folder.is_dir():
            raise TrivdError(f"{folder} is not a folder; {way_out}.")
        if empty and folder.is_dir() and any(folder.iterdir()):
            raise TrivdError(f"{folder} is not empty; {way_out}.")
        _check_place(folder / "file")
    except OSError as error:
        raise _cannot_be_written(folder, error, way_out) from error


def _check_place(path: Path) -> None:
    """Raise OSError if a file could not be created at `path`, with the folders that are missing above it."""
    there = path.parent
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{there} is not a folder")
    for name in path.relative_to(there).parts:
        with suppress(FileNotFoundError):
            os.lstat(there / name)  # fails for names that are too long
    with tempfile.TemporaryFile(dir=there):  # permissions alone do not reveal a read-only disk
        pass


def _cannot_be_written(path: Path, error: OSError, way_out: str) -> TrivdError:
    if is_disk_full(error):
        raise error
    return TrivdError(f"{path} cannot be written ({error.strerror}); {way_out}.")


def is_utf8(path: Path) -> bool:
    """Whether a path is valid UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; a power cut could undo a renaming before."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def read_json(path: Path, largest: int) -> Any:
    """The value of a JSON file of at most `largest` bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is larger, not JSON, or nested too deeply.
    """
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"it has {size:,} bytes, more than {largest:,}")
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def unpacked_sizes(archive: zipfile.ZipFile) -> list[int]:
    """Unpacked size in bytes that a zip file declares for each of its entries.

    zipfile returns at most that much of an entry; its memory is bounded only if the opened entry is read in pieces, as
    NumPy does.

    Raises:
        ValueError: an entry is compressed otherwise than by deflate, which zipfile unpacks in pieces of any size.
    """
    entries = archive.infolist()
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise ValueError("it is packed otherwise than by deflate")
    return [entry.file_size for entry in entries]


def json_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values in hexadecimal digits, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def library_folder() -> Path:
    """Folder of imported weights and compiled kernels: $TRIVD_HOME, $XDG_CACHE_HOME/trivd or ~/.cache/trivd."""
    if home := os.environ.get("TRIVD_HOME"):
        return Path(home)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "trivd"
