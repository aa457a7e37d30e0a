"""Video files: a cheap check, and frame-exact reading from any frame on."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import av

from trivd.config import VideoLimits
from trivd.data.formats.containers import opened
from trivd.data.formats.frame_index import frames_from
from trivd.data.formats.frame_times import FrameTimes
from trivd.data.formats.frames import Frame, FrameConverter, UnreadableVideo, VideoInfo
from trivd.data.formats.index_cache import decoded_index, frame_index


def probe(path: Path, limits: VideoLimits) -> VideoInfo:
    """Check every packet, and decode no more than is needed to tell the frames apart; see `frame_scan`.

    Raises:
        UnreadableVideo: zero bytes, not a video, no video stream, truncated, damaged, empty, or beyond the limits.
    """
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "zero bytes")
    index = frame_index(path, limits)
    return VideoInfo(index.frames, index.height, index.width, index.seekable)


def times(path: Path, limits: VideoLimits) -> FrameTimes:
    """The times of all frames.

    Raises:
        UnreadableVideo: see `probe`; or the file has neither time stamps nor a rate.
    """
    found = frame_index(path, limits).times
    if found is None:
        raise UnreadableVideo(path, "no time stamps and no frame rate", "needed for data.fps")
    return found


def frames(path: Path, start: int, stride: int, convert: FrameConverter, limits: VideoLimits) -> Iterator[Frame]:
    """Frames start, start + stride, ... up to the end of the file; see `frames_at`."""
    return frames_at(path, itertools.count(start, stride), convert, limits)


def frames_at(path: Path, wanted: Iterable[int], convert: FrameConverter, limits: VideoLimits) -> Iterator[Frame]:
    """The frames of the numbers `wanted`, which ascend and may repeat, up to the end of the file.

    They are decoded from the nearest keyframe before, and each is compared with the index of a reading from the
    beginning; if they differ, decoding starts farther back.

    Raises:
        UnreadableVideo: the file cannot be decoded, or is beyond the limits.
    """
    numbers = iter(wanted)
    number = next(numbers, None)  # of the next frame
    index = frame_index(path, limits) if number else None
    if index is not None:
        convert.expect(index.height, index.width)
    while number is not None:
        entry_point = None if index is None else index.entry_point(number)
        with opened(path, limits) as video:
            decoded: Iterator[tuple[int, av.VideoFrame]] = enumerate(video.decoded())
            if index is not None and entry_point is not None:
                decoded = frames_from(video, index, entry_point)
            for found, frame in decoded:
                if found == number:
                    image = convert(frame, video.geometry(frame))
                    while number == found:
                        yield image
                        number = next(numbers, None)
                if number is None:
                    return
        if index is None or entry_point is None or number >= index.frames:
            return
        if index.by_content:
            index.remove(entry_point)
        else:
            index = decoded_index(path, limits)
