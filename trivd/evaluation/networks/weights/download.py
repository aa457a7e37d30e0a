"""Download of I3D's weights; a local file may be named by a URL too."""

import http.client
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES
from trivd.runtime.errors import TrivdError

HUB_URL = "https://tfhub.dev/deepmind/i3d-kinetics-400/1?tf-hub-format=compressed"  # the FVD reference, 50 MB
TIMEOUT = 30  # seconds without an answer
CHUNK_BYTES = 1 << 20
USER_AGENT = "trivd"


def fetch(url: str, folder: Path, progress: Callable[[int, int | None], None]) -> Path:
    """The file at a URL, copied into a folder if it comes from the network.

    Args:
        url: https://..., file://..., or a path.
        folder: where to put it; must exist.
        progress: told of the bytes so far, and of all bytes where the server says how many.

    Raises:
        TrivdError: another kind of URL, no network, no such file, or one that is far too large for I3D.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return Path(url2pathname(parts.path) if parts.scheme else url)
    if parts.scheme != "https":
        raise TrivdError(f"{url} is no https:// address; weights are not fetched over an open connection.")
    destination = folder / (PurePosixPath(parts.path).name or "weights")
    try:
        with (
            urlopen(Request(url, headers={"User-Agent": USER_AGENT}), timeout=TIMEOUT) as response,
            destination.open("wb") as file,
        ):
            if urlsplit(response.geturl()).scheme != "https":
                raise TrivdError(f"{url} leads to {response.geturl()}, which is not https://; name another --url.")
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            received = 0
            while chunk := response.read(CHUNK_BYTES):
                received += len(chunk)
                if max(received, total or 0) > LARGEST_BYTES:
                    raise TrivdError(f"{url} is larger than {LARGEST_BYTES / 1e9:.1f} GB, so it is not I3D.")
                file.write(chunk)
                progress(received, total)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TrivdError(
            f"Could not download {url} ({reason}); without a network, fetch the file elsewhere and run "
            "`trivd weights import FILE`."
        ) from error
    if total is not None and received != total:
        raise TrivdError(f"{url} broke off after {received:,} of {total:,} bytes; try again.")
    return destination
