"""The frames of a video file, and the keyframes from which decoding gives exactly the same frames.

A frame's number is its place among all frames that a reading from the beginning gives; a frame is known by its time
stamp, or by a checksum of its pixels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import av
import google_crc32c
import numpy as np
from numpy.typing import NDArray

from trivd.data.formats.containers import OpenVideo
from trivd.data.formats.frame_times import FrameTimes
from trivd.data.formats.frames import UnreadableVideo


class EntryPoint(NamedTuple):
    """A keyframe from which a file can be decoded."""

    number: int  # number of its frame
    timestamp: int  # time to seek to, in the stream's time base


@dataclass
class FrameIndex:
    """The frames of a file, in order."""

    height: int  # as shown
    width: int
    marks: NDArray[np.int64]  # what identifies each frame: its time stamp, or a checksum of its pixels
    by_content: bool  # whether the marks are checksums
    times: FrameTimes | None  # None: the file has neither time stamps nor a rate
    entry_points: list[EntryPoint] = field(default_factory=list)  # sorted; those that turn out inexact are removed
    seekable: bool = True  # False: there are keyframes, but decoding from them is not exact

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.marks)

    def mark(self, frame: av.VideoFrame) -> int | None:
        """The mark of a decoded frame."""
        return checksum(frame) if self.by_content else frame.pts

    def entry_point(self, number: int) -> EntryPoint | None:
        """The last entry point from which frame `number` can be reached; None: only from the beginning."""
        place = bisect_right(self.entry_points, number, key=lambda entry_point: entry_point.number)
        return self.entry_points[place - 1] if place else None

    def remove(self, entry_point: EntryPoint) -> None:
        """Remove an entry point that does not lead to the right frames; if it is the second one, remove all."""
        self.entry_points.remove(entry_point)
        if not self.seekable:
            self.entry_points.clear()
        self.seekable = False


def frames_from(video: OpenVideo, index: FrameIndex, entry_point: EntryPoint) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their numbers from an entry point on, as long as they match the index."""
    number = None
    try:
        video.container.seek(entry_point.timestamp, stream=video.stream)
        for place, frame in enumerate(video.decoded()):
            mark = index.mark(frame)
            if number is not None:
                number += 1
            elif mark == index.marks[entry_point.number]:
                number = entry_point.number
            elif place < entry_point.number:  # a seek may lead to an earlier keyframe
                continue
            if number is None or number >= index.frames or mark != index.marks[number]:
                return
            if frame.is_corrupt and not index.by_content:  # its concealment may depend on what was decoded before
                return
            yield number, frame
    except (
        av.error.FFmpegError,
        UnreadableVideo,
    ):  # it refers to frames before the entry point, or is damaged
        return


def checksum(frame: av.VideoFrame) -> int:
    """CRC-32C of a frame's decoded pixels, without the padding of rows."""
    if any(plane.line_size < 0 for plane in frame.planes):  # bottom-up, which PyAV's buffers do not support
        frame = frame.reformat(format="rgb24")
    value, layout = 0, frame.format
    for number, plane in enumerate(frame.planes):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        bits = (
            layout.padded_bits_per_pixel
            if len(frame.planes) == 1
            else sum(-(-part.bits // 8) * 8 for part in layout.components if part.plane == number)
        )
        used = min(plane.line_size, -(-plane.width * bits // 8)) if bits else plane.line_size
        value = google_crc32c.extend(value, np.ascontiguousarray(rows[: plane.height, :used]))
    return value
