"""Writing files whole or not at all, and the folder for what is kept between runs."""

import os
from pathlib import Path


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, creating its folder; nobody ever reads half a file, an interrupted write changes nothing.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # same folder: os.replace must not cross disks
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def library_folder() -> Path:
    """Of imported weights and compiled kernels: $TRIVD_HOME, else $XDG_CACHE_HOME/trivd, else ~/.cache/trivd."""
    if home := os.environ.get("TRIVD_HOME"):
        return Path(home)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "trivd"
