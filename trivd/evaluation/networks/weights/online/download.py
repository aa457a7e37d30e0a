"""Download of a file; a local one may be named by an address too."""

import http.client
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES
from trivd.evaluation.networks.weights.online.connection import Connection, reason, shown
from trivd.runtime.errors import TrivdError, is_disk_full

CHUNK_BYTES = 1 << 20
Received = Callable[[int, int | None], None]  # bytes so far, and all bytes where the server says how many


def fetch(url: str, folder: Path, connection: Connection, progress: Received) -> Path:
    """The file at an address, copied into a folder if it comes from the network.

    Args:
        url: https://..., file://..., or a path.
        folder: where to put it; must exist.
        connection: to the network.
        progress: called after each part.

    Raises:
        TrivdError: another kind of address, no network, no such file, or one that is far too large for I3D.
        OSError: the disk is full.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return Path(url2pathname(parts.path) if parts.scheme else url)
    destination = folder / (PurePosixPath(parts.path).name or "weights")
    try:
        with connection.open(url) as response, destination.open("wb") as file:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            received = 0
            while chunk := response.read(CHUNK_BYTES):
                received += len(chunk)
                if max(received, total or 0) > LARGEST_BYTES:
                    raise TrivdError(f"{shown(url)} is larger than {LARGEST_BYTES / 1e9:.1f} GB, so it is not I3D.")
                file.write(chunk)
                progress(received, total)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        raise TrivdError(
            f"Could not download {shown(url)} ({reason(error)}); without a network, fetch the file elsewhere and run "
            "`trivd weights import FILE`."
        ) from error
    if total is not None and received != total:
        raise TrivdError(f"{shown(url)} broke off after {received:,} of {total:,} bytes; try again.")
    return destination
