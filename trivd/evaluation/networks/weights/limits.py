"""Limits on files of weights, so that a damaged or hostile one costs an error and not the machine."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trivd.runtime.errors import TrivdError

FloatArray = NDArray[np.float32]

LARGEST_BYTES = 1 << 30  # of a file, of its unpacked contents, and of its tensors; I3D has 51 MB


def read_limited(path: Path) -> bytes:
    """The bytes of a file of moderate size.

    Raises:
        TrivdError: it cannot be read, or is larger than `LARGEST_BYTES`.
    """
    check_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrivdError(f"Cannot read {path}: {error.strerror}.") from error


def check_size(path: Path) -> None:
    """Refuse a file that is too large to be I3D.

    Raises:
        TrivdError: it cannot be found, or is larger than `LARGEST_BYTES`.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise TrivdError(f"Cannot read {path}: {error.strerror}.") from error
    if size > LARGEST_BYTES:
        raise TrivdError(f"{path} has {size / 1e9:.1f} GB, but I3D's weights are 0.05 GB; name the right file.")
