"""Package indexes as the user's pip is told to use them: addresses, proxy and certificates."""

import ast
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass

from trivd.runtime.errors import TrivdError

PYPI = "https://pypi.org/simple"
SECTIONS = ("global.", "download.", ":env:.")  # of pip's configuration, from the weakest to the strongest
VARIABLE = "PIP_"  # what the names of pip's environment variables begin with
SECONDS = 60  # for pip's answer
NO = ("", "0", "false", "no", "off", "n", "f")


@dataclass(frozen=True)
class PipSettings:
    """What of pip's configuration tells where packages come from; addresses may hold a name and a password."""

    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()  # folders, and addresses of pages
    trusted_hosts: tuple[str, ...] = ()  # that need neither https nor a certificate
    certificates: str | None = None  # file or folder of those to trust, in place of the system's
    client_certificate: str | None = None
    proxy: str | None = None  # None: as the environment says


def pip_settings() -> PipSettings:
    """The settings of the pip of this Python; without one, those of the environment variables.

    Raises:
        TrivdError: pip cannot read its configuration.
    """
    values = _configuration() | {
        name.removeprefix(VARIABLE).lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith(VARIABLE) and value
    }

    def several(name: str) -> tuple[str, ...]:
        return tuple(values.get(name, "").split())

    indexes = (values.get("index-url") or PYPI, *several("extra-index-url"))
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")  # as pip's own downloads
    return PipSettings(
        () if values.get("no-index", "").lower() not in NO else indexes,
        several("find-links"),
        several("trusted-host"),
        values.get("cert") or bundle,
        values.get("client-cert"),
        values.get("proxy"),
    )


def _configuration() -> dict[str, str]:
    """pip's settings by the names of its options, from all its files."""
    if importlib.util.find_spec("pip") is None:
        return {}
    # With -P, so that a pip.py in the current folder is not taken for pip.
    command = [sys.executable, "-P", "-m", "pip", "config", "list"]
    try:
        listed = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True, text=True).stdout
    except (OSError, subprocess.SubprocessError) as error:  # whose text could hold a password
        raise TrivdError("pip cannot read its configuration; see what `pip config list` says.") from error
    values: dict[str, str] = {}
    for section in SECTIONS:
        for line in listed.splitlines():
            name, equals, value = line.partition("=")
            if equals and name.startswith(section):
                values[name.removeprefix(section)] = str(ast.literal_eval(value))
    return values
