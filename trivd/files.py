"""Writing files whole or not at all, names for what depends on settings, and the folder of what is kept."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def json_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values whatever the order of their keys, in hexadecimal digits: names what depends on them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def library_folder() -> Path:
    """Of imported weights and compiled kernels: $TRIVD_HOME, else $XDG_CACHE_HOME/trivd, else ~/.cache/trivd."""
    if home := os.environ.get("TRIVD_HOME"):
        return Path(home)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "trivd"
