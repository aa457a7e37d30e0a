"""Connections to package indexes as pip makes them: with its certificates, proxy, and the passwords in addresses."""

import base64
import http.client
import netrc
import ssl
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import (
    BaseHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from trivd.evaluation.networks.weights.online.pip_settings import PipSettings
from trivd.runtime.errors import TrivdError

TIMEOUT = 30  # seconds without an answer
USER_AGENT = "trivd"


class Connection:
    """Opens addresses. Passwords go to the hosts that they were given for alone, and are in no message."""

    def __init__(self, settings: PipSettings | None = None) -> None:
        """Prepare connections.

        Raises:
            TrivdError: the certificates cannot be read.
        """
        settings = settings or PipSettings()
        self._trusted_hosts = settings.trusted_hosts
        try:
            self._opener = _opener(settings, _Redirects(self._check))
        except (OSError, ValueError) as error:
            raise TrivdError(
                f"The certificates that pip is told to use cannot be read ({error}); name others."
            ) from error

    def open(self, url: str, accept: str = "*/*") -> Any:
        """The answer at an address, which reads like a file.

        Raises:
            OSError, http.client.HTTPException, ValueError: there is no answer; see `reason`.
            TrivdError: the address, or what it leads to, is not encrypted, and no host that pip is told to trust.
        """
        self._check(url)
        parts = urlsplit(url)
        request = Request(
            parts._replace(netloc=_host(parts)).geturl(), headers={"User-Agent": USER_AGENT, "Accept": accept}
        )
        return self._opener.open(request, timeout=TIMEOUT)

    def _check(self, url: str, start: str = "") -> None:
        parts = urlsplit(url)
        trusted = _is_trusted(parts, self._trusted_hosts) or _is_local(parts.hostname)
        if parts.scheme != "https" and not (parts.scheme == "http" and trusted):
            raise TrivdError(
                f"{start}{shown(url)}, which is no https:// address; weights are not fetched over an open connection."
            )


def shown(url: str) -> str:
    """An address for messages: without all that could be a name and a password in it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url


def reason(error: Exception) -> str:
    """Why there is no answer, in words that hold no address."""
    if isinstance(error, http.client.InvalidURL | ValueError):
        return "it is no valid address"
    return str(error.reason if type(error) is URLError else error)


def _opener(settings: PipSettings, redirects: HTTPRedirectHandler) -> OpenerDirector:
    place = settings.certificates
    is_folder = place is not None and Path(place).is_dir()
    checking = ssl.create_default_context(cafile=None if is_folder else place, capath=place if is_folder else None)
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    if settings.client_certificate is not None:
        checking.load_cert_chain(settings.client_certificate)
        trusting.load_cert_chain(settings.client_certificate)
    proxies = None if settings.proxy is None else {"http": settings.proxy, "https": settings.proxy}
    return build_opener(
        ProxyHandler(proxies),
        redirects,
        _Https(checking, trusting, settings.trusted_hosts),
        _Passwords([*settings.indexes, *settings.find_links]),
    )


def _is_trusted(parts: SplitResult, hosts: Container[str]) -> bool:
    return _host(parts) in hosts or parts.hostname in hosts


class _Redirects(HTTPRedirectHandler):
    """Follows what an address leads to once it passes a check: before a password is sent there."""

    def __init__(self, check: Callable[[str, str], None]) -> None:
        self._check = check

    def redirect_request(  # noqa: PLR0917 (as the base class)
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        try:
            self._check(newurl, f"{shown(req.full_url)} leads to ")
        except TrivdError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Https(HTTPSHandler):
    """Checks the certificates of all hosts but the trusted ones."""

    def __init__(self, checking: ssl.SSLContext, trusting: ssl.SSLContext, trusted_hosts: Container[str]) -> None:
        super().__init__()
        self._checking = checking
        self._trusting = trusting
        self._trusted_hosts = trusted_hosts

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        trusted = _is_trusted(urlsplit(req.full_url), self._trusted_hosts)
        return self.do_open(http.client.HTTPSConnection, req, context=self._trusting if trusted else self._checking)


class _Passwords(BaseHandler):
    """Adds the passwords of addresses or of ~/.netrc to requests to their hosts, and not to what they redirect to."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._known: dict[str, tuple[str, str]] = {}
        for address in addresses:
            with suppress(ValueError):
                parts = urlsplit(address)
                if parts.username is not None:
                    self._known[_host(parts)] = (unquote(parts.username), unquote(parts.password or ""))

    def http_request(self, req: Request) -> Request:
        parts = urlsplit(req.full_url)
        found = self._known.get(_host(parts)) or _netrc(parts.hostname or "")
        if found is not None:
            token = base64.b64encode(":".join(found).encode()).decode()
            req.add_unredirected_header("Authorization", f"Basic {token}")
        return req

    https_request = http_request


def _netrc(host: str) -> tuple[str, str] | None:
    with suppress(OSError, netrc.NetrcParseError):
        entry = netrc.netrc().authenticators(host)
        return None if entry is None else (entry[0], entry[2] or "")
    return None


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2].lower()


def _is_local(host: str | None) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ip_address(host or "").is_loopback
    return False
