"""Files written whole or not at all, and read with care; names for what depends on settings; the library's folder."""

import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, creating its folder; nobody ever reads half a file, an interrupted write changes nothing.

    Once it returns, the file is on the disk, and survives a power cut.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # same folder: os.replace must not cross disks
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else the name might survive a power cut, and the bytes not
        os.replace(temporary, path)
        sync_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_names(folder: Path) -> None:
    """Wait until the disk has the names in a folder; a power cut could undo a renaming before."""
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
        OSError: it cannot be read.
        ValueError: it is larger, not JSON, or nested too deep to be read.
    """
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"it has {size:,} bytes, more than {largest:,}")
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def unpacked_sizes(archive: zipfile.ZipFile) -> list[int]:
    """Bytes that each entry of a zip file says it unpacks to.

    zipfile gives no more of an entry, whatever is in it; but only an opened entry that is read in pieces, as NumPy
    does, takes no more memory either.

    Raises:
        ValueError: an entry is not packed by deflate; others zipfile unpacks in pieces of any size.
    """
    entries = archive.infolist()
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise ValueError("it is packed otherwise than by deflate")
    return [entry.file_size for entry in entries]


def json_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values whatever the order of their keys, in hexadecimal digits: names what depends on them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def library_folder() -> Path:
    """Of imported weights and compiled kernels: $TRIVD_HOME, else $XDG_CACHE_HOME/trivd, else ~/.cache/trivd."""
    if home := os.environ.get("TRIVD_HOME"):
        return Path(home)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "trivd"
