"""Video files: a cheap check, and frame-exact reading from any frame on."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from trivd.config import VideoLimits
from trivd.data.formats.containers import opened
from trivd.data.formats.frame_index import frames_from
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


def frames(path: Path, start: int, stride: int, convert: FrameConverter, limits: VideoLimits) -> Iterator[Frame]:
    """Frames start, start + stride, ... up to the end of the file.

    They are decoded from the nearest keyframe before, and each is compared with the index of a reading from the
    beginning; if they differ, decoding starts farther back.

    Raises:
        UnreadableVideo: the file cannot be decoded, or is beyond the limits.
    """
    number = start  # number of the next frame
    index = frame_index(path, limits) if start else None
    if index is not None:
        convert.expect(index.height, index.width)
    while index is not None and (entry_point := index.entry_point(number)) is not None:
        with opened(path, limits) as video:
            for found, frame in frames_from(video, index, entry_point):
                if found == number:
                    yield convert(frame, video.geometry(frame))
                    number += stride
        if number >= index.frames:
            return
        if index.by_content:
            index.remove(entry_point)
        else:
            index = decoded_index(path, limits)
    with opened(path, limits) as video:
        for frame in itertools.islice(video.decoded(), number, None, stride):
            yield convert(frame, video.geometry(frame))
