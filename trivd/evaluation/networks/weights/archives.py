"""The zip files of torch.save and torch.jit.save: a pickle, and storages as files of raw numbers beside it.

Layout: torch/csrc/jit/docs/serialization.md. One reader of zip files for all of them: two could be shown two contents.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, check_size
from trivd.evaluation.networks.weights.pickles import LARGEST_PICKLE, read_content
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import unpacked_sizes

DATA = "data.pkl"
LARGEST_RATIO = 20  # of unpacked to packed bytes, for files over a megabyte; PyTorch stores tensors as they are


class Archive(NamedTuple):
    """What is in a zip file of PyTorch."""

    root: Any  # of the pickle
    load: Callable[[str], bytes]  # a storage's bytes by its key
    size: int  # bytes of all its files


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip file, after a look at the sizes that its entries say they unpack to.

    Raises:
        TrivdError: it is damaged, or unpacks to far more than I3D's weights.
    """
    check_size(path)
    try:
        archive = zipfile.ZipFile(path)
        unpacked = sum(unpacked_sizes(archive))
    except Exception as error:  # zipfile has half a dozen ways to fail on damaged files
        raise TrivdError(f"{path} is a damaged zip file: {error}; fetch it again.") from error
    if unpacked > min(LARGEST_BYTES, max(1 << 20, LARGEST_RATIO * path.stat().st_size)):
        archive.close()
        raise TrivdError(f"{path} unpacks to far more than I3D's weights are; do not trust this file.")
    return archive


def read_archive(archive: zipfile.ZipFile) -> Archive:
    """The pickle of an archive, and access to its storages.

    Args:
        archive: of `open_zip`.

    Raises:
        Exception: it is damaged, or its pickle asks for anything but tensors and plain containers.
    """
    data = _only(archive, DATA)
    root = data.filename.removesuffix(DATA)
    if data.file_size > LARGEST_PICKLE:
        raise ValueError(f"{data.filename} has {data.file_size:,} bytes")
    if f"{root}byteorder" in archive.namelist() and _bytes(archive, f"{root}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    content = read_content(io.BytesIO(_bytes(archive, data.filename)))
    return Archive(content.root, lambda key: _bytes(archive, f"{root}data/{key}"), sum(unpacked_sizes(archive)))


def _bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file's contents. Not by `archive.read`, which unpacks all that is there before it cuts it to the size."""
    with archive.open(name) as file:
        return file.read(archive.getinfo(name).file_size)


def _only(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The one entry of this name, in whichever top folder."""
    found = [entry for entry in archive.infolist() if entry.filename.split("/")[1:] == [name]]
    if len(found) != 1:
        raise ValueError(f"it holds {len(found)} files {name}, but should hold one")
    return found[0]
