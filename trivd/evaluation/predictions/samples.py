"""Files of predictions of one clip: a video for each sample, or all samples in one array."""

import os
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from trivd.config import VideoLimits
from trivd.data.formats.decode import probe, read_frames
from trivd.data.formats.frames import UnreadableVideo, VideoInfo, check_bytes, check_frame, check_length
from trivd.runtime.files import ARRAY_HEADER_LOCK, unpacked_sizes
from trivd.runtime.pixels import Pixels

ARRAY_SUFFIXES = (".npy", ".npz")
FUTURES = "futures"  # the array of an .npz file that holds samples, as `trivd predict --npz` calls it
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Samples(Protocol):
    """One or more predictions of a clip, in one file or folder."""

    @property
    def path(self) -> Path: ...

    @property
    def info(self) -> VideoInfo:
        """Length and size of each sample."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __iter__(self) -> Iterator[Pixels]:
        """Samples (T, H, W, 3), one after the other.

        Raises:
            UnreadableVideo: a sample cannot be read.
        """
        ...

    def clip(self, sample: int, start: int, frames: int, stride: int) -> Pixels:
        """Frames start, start + stride, ... of a sample, (frames, H, W, 3).

        Raises:
            UnreadableVideo: they cannot be read.
        """
        ...


@dataclass(frozen=True)
class OneVideo:
    """One prediction: a video, a folder of images, or an array (T, H, W, C)."""

    path: Path
    info: VideoInfo
    limits: VideoLimits

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Pixels]:
        yield self.clip(0, 0, self.info.frames, 1)

    def clip(self, sample: int, start: int, frames: int, stride: int) -> Pixels:
        return read_frames(self.path, start, frames, stride, short_side=None, channels=3, limits=self.limits)


@dataclass(frozen=True)
class SampleArray:
    """An array (S, T, H, W, C) of uint8 in a .npy or .npz file, of which one sample at a time is read."""

    path: Path
    shape: tuple[int, ...]

    @property
    def info(self) -> VideoInfo:
        _, frames, height, width, _ = self.shape
        return VideoInfo(frames, height, width)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Pixels]:
        yield from self._from(0)

    def clip(self, sample: int, start: int, frames: int, stride: int) -> Pixels:
        with closing(self._from(sample)) as rest:
            return next(rest)[start : start + frames * stride : stride]

    def _from(self, first: int) -> Generator[Pixels, None, None]:
        """All samples from one on."""
        sample = self.shape[1:]
        size = int(np.prod(sample))
        try:
            with closing(_open(self.path)) as stream:
                _header(stream)
                stream.seek(first * size, os.SEEK_CUR)
                for _ in range(first, len(self)):
                    data = stream.read(size)
                    yield np.broadcast_to(np.frombuffer(data, np.uint8).reshape(sample), (*sample[:-1], 3))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UnreadableVideo(self.path, "truncated, or damaged") from error


def find_samples(path: Path, limits: VideoLimits) -> Samples:
    """The samples in a file or folder: an array of several, or one video.

    Raises:
        UnreadableVideo: it holds neither, or is beyond the limits.
    """
    shape = _sample_shape(path) if path.suffix.lower() in ARRAY_SUFFIXES and path.is_file() else None
    if shape is None:
        return open_video(path, limits)
    _, frames, height, width, _ = shape
    check_length(path, frames, limits)
    check_frame(path, height, width, limits)
    check_bytes(path, frames * height * width * 3, limits)
    return SampleArray(path, shape)


def open_video(path: Path, limits: VideoLimits) -> OneVideo:
    """A video, of which only the first frame has been decoded.

    Raises:
        UnreadableVideo: it cannot be used, or is beyond the limits.
    """
    info = probe(path, limits)
    check_bytes(path, info.frames * info.height * info.width * 3, limits)
    return OneVideo(path, info, limits)


def _sample_shape(path: Path) -> tuple[int, ...] | None:
    """The shape of an array of samples; None if the file is something else, or damaged."""
    try:
        with closing(_open(path)) as stream:
            shape, fortran_order, dtype = _header(stream)
    except Exception:  # NumPy, zip and zlib have a dozen ways to fail on a damaged file; as a video it will be refused
        return None
    is_one = len(shape) == 5 and shape[-1] in (1, 3) and 0 not in shape and dtype == np.uint8 and not fortran_order
    return shape if is_one else None


def _open(path: Path) -> IO[bytes]:
    """The bytes of the array in a .npy file, or in an .npz file, of the array of samples or the only one.

    Raises:
        ValueError: there is no such array.
    """
    if path.suffix.lower() == ".npy":
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:  # an open entry keeps the file open
        unpacked_sizes(archive)
        names = [name for name in archive.namelist() if name == f"{FUTURES}.npy"] or archive.namelist()
        if len(names) != 1:
            raise ValueError(f"{path} holds several arrays")
        return archive.open(names[0])


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether the order is Fortran's, and type."""
    with ARRAY_HEADER_LOCK:
        shape, fortran_order, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
    return shape, fortran_order, dtype
