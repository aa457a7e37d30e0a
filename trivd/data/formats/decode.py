"""Reading of any video: files of many formats, folders of numbered images, and arrays."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.datasets.tree import is_hidden
from trivd.data.formats import images as pictures
from trivd.data.formats import video as video_reader
from trivd.data.formats.frame_times import FrameTimes
from trivd.data.formats.frames import Frame, FrameConverter, UnreadableVideo, VideoInfo, check_resampled

__all__ = ["UnreadableVideo", "Video", "VideoFile", "VideoInfo", "first_frames", "is_video", "probe", "read_frames"]

# fmt: off
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".flv", ".mkv", ".webm", ".avi", ".divx", ".gif",
    ".wmv", ".asf", ".ogv", ".ogm", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".mod", ".ts", ".tod",
    ".mts", ".m2ts", ".m2t", ".dv", ".mxf", ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".y4m",
)
# fmt: on


@dataclass(frozen=True)
class _Reader:
    probe: Callable[[Path, VideoLimits], VideoInfo]
    frames: Callable[[Path, int, int, FrameConverter, VideoLimits], Iterator[Frame]]


_CONTAINER = _Reader(video_reader.probe, video_reader.frames)
_IMAGES = _Reader(pictures.probe_images, pictures.image_frames)
_ARRAY = _Reader(pictures.probe_array, pictures.array_frames)
_BY_SUFFIX = {".npy": _ARRAY, ".npz": _ARRAY} | dict.fromkeys(VIDEO_SUFFIXES, _CONTAINER)


def is_video(path: Path) -> bool:
    """Whether a path looks like a video: a file by its suffix, a folder by holding images without videos or folders."""
    if path.is_dir():
        inner = [inside for inside in path.iterdir() if not is_hidden(inside.name)]
        return not any(inside.is_dir() or is_video(inside) for inside in inner) and bool(pictures.numbered_images(path))
    return path.suffix.lower() in _BY_SUFFIX


def probe(path: Path, limits: VideoLimits = DEFAULT_LIMITS) -> VideoInfo:
    """Check a video cheaply; see `trivd.data.formats.video.probe`.

    Raises:
        UnreadableVideo: the video cannot be used, or is beyond the limits; the message says why.
    """
    return _reader(path).probe(path, limits)


class Video(Protocol):
    """A video on disk that has not been opened yet."""

    def probe(self) -> VideoInfo:
        """Check the video cheaply. Raises UnreadableVideo, whose message says why it cannot be used."""
        ...

    def frames(self, start: int, stride: int, convert: FrameConverter) -> Iterator[Frame]:
        """Frames start, start + stride, ... to the end, one at a time: (H, W, C) uint8. Raises UnreadableVideo."""
        ...

    @property
    def path(self) -> Path:
        """File or folder of the video, for messages."""
        ...


@dataclass(frozen=True)
class VideoFile:
    """A video in a file, or in a folder of numbered images, of its own.

    With `fps`, it is read as if it had that rate, see `trivd.data.formats.frame_times`; folders of images and arrays,
    which have no times, are read as they are.
    """

    path: Path
    limits: VideoLimits = DEFAULT_LIMITS
    fps: float | None = None  # frames a second; None: its own frames

    def probe(self) -> VideoInfo:
        """See `probe`; with `fps`, the frames are those at that rate."""
        info = probe(self.path, self.limits)
        if self.fps is None or (times := self._times()) is None:
            return info
        count = times.count(self.fps)
        check_resampled(self.path, count, self.fps, self.limits)
        return replace(info, frames=count, rate=times.rate, evenly=times.evenly)

    def frames(self, start: int, stride: int, convert: FrameConverter) -> Iterator[Frame]:
        """See `Video.frames`."""
        if self.fps is not None and (times := self._times()) is not None:
            return video_reader.frames_at(self.path, times.nearest(self.fps, start, stride), convert, self.limits)
        return _reader(self.path).frames(self.path, start, stride, convert, self.limits)

    def _times(self) -> FrameTimes | None:
        """The times of the frames; None for a video that has none."""
        return video_reader.times(self.path, self.limits) if _reader(self.path) is _CONTAINER else None


def first_frames(
    video: Video, start: int, count: int, stride: int, *, short_side: int | None, channels: int
) -> NDArray[np.uint8]:
    """Read `count` frames of a video: (count, H, W, C) uint8; see `read_frames`."""
    frames = video.frames(start, stride, FrameConverter(short_side, channels))
    taken = list(itertools.islice(frames, count))
    if len(taken) < count:
        raise UnreadableVideo(video.path, "ends early", f"no frame {start + len(taken) * stride}")
    return np.stack(taken)


def read_frames(
    path: Path,
    start: int,
    count: int,
    stride: int,
    *,
    short_side: int | None,
    channels: int,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> NDArray[np.uint8]:
    """Read `count` frames of a video file, upright: (count, H, W, C) uint8.

    Args:
        path: a video file, a folder of numbered images, or a .npy / .npz array (T, H, W[, C]) of uint8.
        start: number of the first frame, from 0.
        count: number of frames to read.
        stride: distance between neighbours, in frames of the video.
        short_side: length of the shorter side in pixels, the other one in proportion; None keeps the video's size.
        channels: 3 (RGB) or 1 (grey).
        limits: limits on the size of videos.

    Raises:
        UnreadableVideo: the video cannot be decoded, ends too early, or is beyond the limits.
    """
    return first_frames(VideoFile(path, limits), start, count, stride, short_side=short_side, channels=channels)


def _reader(path: Path) -> _Reader:
    if path.is_dir():
        return _IMAGES
    if not path.exists():
        raise UnreadableVideo(path, "missing")
    if not path.is_file():  # a pipe would block its reader for ever
        raise UnreadableVideo(path, "not a file")
    reader = _BY_SUFFIX.get(path.suffix.lower())
    if reader is None:
        raise UnreadableVideo(path, "not a video", f"{path.suffix or 'no'} suffix")
    return reader
