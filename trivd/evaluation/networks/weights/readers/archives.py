"""The zip files of torch.save and torch.jit.save: a pickle, and storages as files of raw numbers beside it.

Layout: torch/csrc/jit/docs/serialization.md. Python's zipfile alone decides what is in such a file, within limits;
PyTorch, whose own reader may find another directory and skips checksums, gets a copy.
"""

import zipfile
from pathlib import Path

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, check_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import unpacked_sizes

DATA = "data.pkl"
LARGEST_PICKLE = 1 << 20  # bytes; I3D's has 40 kB
LARGEST_RATIO = 20  # of unpacked to packed bytes, for files over a megabyte; PyTorch stores tensors as they are


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


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a PyTorch file holds a program beside its tensors."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def copy_data(archive: zipfile.ZipFile, target: Path) -> None:
    """Write the pickle and the storages of an archive, not packed and without any code, as torch.save would.

    Args:
        archive: from `open_zip`.
        target: the file to write.

    Raises:
        ValueError: it does not hold one pickle of a moderate size.
        Exception: it is damaged.
    """
    pickles = [entry for entry in archive.infolist() if entry.filename.split("/")[1:] == [DATA]]  # in any top folder
    if len(pickles) != 1:
        raise ValueError(f"it holds {len(pickles)} files {DATA}, but should hold one")
    if pickles[0].file_size > LARGEST_PICKLE:
        raise ValueError(f"{pickles[0].filename} has {pickles[0].file_size:,} bytes")
    root = pickles[0].filename.removesuffix(DATA)
    with zipfile.ZipFile(target, "w") as copy:
        copy.writestr("archive/version", "3\n")
        for name in dict.fromkeys(archive.namelist()):
            inside = name.removeprefix(root)
            if name.startswith(root) and (inside in (DATA, "byteorder") or inside.startswith("data/")):
                copy.writestr(f"archive/{inside}", _bytes(archive, name))


def _bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file's contents. Not by `archive.read`, which unpacks all that is there before it cuts it to the size."""
    with archive.open(name) as file:
        return file.read(archive.getinfo(name).file_size)
