"""The frame indexes of the video files used last, each made once."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from trivd.config import VideoLimits
from trivd.data.formats.containers import opened
from trivd.data.formats.frame_index import FrameIndex, frames_from
from trivd.data.formats.frame_scan import FrameScan

CACHED_FRAMES = 1 << 23  # in all indexes that a process keeps: 64 MB, or 128 MB if all were decoded
# Formats that store a time stamp with each packet, and codecs whose packets are one frame each.
STAMPED_FORMATS = ("mp4", "matroska", "mpegts", "flv")
STAMPED_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "prores", "dnxhd", "mjpeg", "ffv1", "rawvideo"})


class _Cache:
    """A thread-safe cache of the indexes used last, up to `CACHED_FRAMES` frames in total."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int, int, VideoLimits], FrameIndex] = OrderedDict()
        self._lock = Lock()
        self._frames = 0

    def get(self, path: Path, limits: VideoLimits, rebuild: bool) -> FrameIndex:
        status = path.stat()
        key = path, status.st_mtime_ns, status.st_size, limits
        with self._lock:
            index = self._kept.get(key)
            if index is not None and not rebuild:
                self._kept.move_to_end(key)
                return index
        index = _build(path, limits, rebuild)
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._frames += index.frames - (replaced.frames if replaced else 0)
            self._kept[key] = index
            while self._frames > CACHED_FRAMES and len(self._kept) > 1:
                self._frames -= self._kept.popitem(last=False)[1].frames
        return index


_cache = _Cache()


def frame_index(path: Path, limits: VideoLimits) -> FrameIndex:
    """The cached index of a file.

    Raises:
        UnreadableVideo: the file has no frame, is truncated or damaged, or is beyond the limits.
    """
    return _cache.get(path, limits, rebuild=False)


def decoded_index(path: Path, limits: VideoLimits) -> FrameIndex:
    """An index by content, for a file whose time stamps mislead; it replaces the other one in the cache."""
    return _cache.get(path, limits, rebuild=True)


def _build(path: Path, limits: VideoLimits, by_content: bool) -> FrameIndex:
    if not by_content:
        with opened(path, limits) as video:
            is_stamped = any(name in video.container.format.name for name in STAMPED_FORMATS)
            index = FrameScan(video).by_timestamps() if is_stamped and video.codec in STAMPED_CODECS else None
        if index is not None:
            return index
    with opened(path, limits) as video:
        index = FrameScan(video).by_content()
    if index.entry_points:  # a look at one of them tells whether there is an exact way in
        entry_point = index.entry_points[len(index.entry_points) // 2]
        with opened(path, limits) as video:
            wanted = min(2, index.frames - entry_point.number)
            index.seekable = len([*zip(range(wanted), frames_from(video, index, entry_point), strict=False)]) == wanted
        if not index.seekable:
            index.entry_points.clear()
    return index
