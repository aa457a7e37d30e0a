"""Series of a store: what is known at each frame of its videos beside the pixels, such as a robot's actions.

They lie beside the shards in `shards/00000.npz`, ..., one array (V, T, ...) float32 for each name, V videos of T frames
in the order of the shard. Stores of films have none.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trivd.data.store.index import read_index, shard_path
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

Series = dict[str, NDArray[np.float32]]


@runtime_checkable
class HasSeries(Protocol):
    """A `Video` with series; all videos of a store then have the same names and lengths."""

    def series(self) -> Series:
        """One array (T, ...) for each name."""
        ...


def series_path(root: Path, number: int) -> Path:
    """Path of the series of a shard."""
    return shard_path(root, number).with_suffix(".npz")


def write_series(root: Path, number: int, videos: Sequence[Series]) -> None:
    """Write the series of the videos of a shard."""
    file = io.BytesIO()
    np.savez(file, **{name: np.stack([one[name] for one in videos]) for name in videos[0]})  # type: ignore[arg-type]
    write_atomically(series_path(root, number), file.getvalue())


def is_whole(root: Path, number: int) -> bool:
    """Whether the series of a shard are there and unchanged, by their checksums."""
    try:
        with zipfile.ZipFile(series_path(root, number)) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def read_series(root: Path) -> Series:
    """The series of all videos of a store, (N, T, ...) each, in the order of `read_index(root).videos`.

    Raises:
        TrivdError: the store has none, is unfinished or damaged.
    """
    numbers = range(len(read_index(root).shards))
    if not any(series_path(root, number).exists() for number in numbers):
        raise TrivdError(f"{root} holds pixels alone: only stores of robot-pushing have series.")
    for number in numbers:
        if not is_whole(root, number):
            raise TrivdError(
                f"{series_path(root, number)} is damaged; delete {root / 'index.json'} and repeat the store's "
                "`trivd prepare` command, which writes again what is damaged."
            )
    shards: list[Series] = []
    for number in numbers:
        with np.load(series_path(root, number), allow_pickle=False) as arrays:
            shards.append(dict(arrays))
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
