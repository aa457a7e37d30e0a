"""Which frames a video file has, and where one can begin to decode it and still get exactly those.

A frame's number is its place among all frames that a reading from the beginning gives. Where each packet is one frame
with a time stamp of its own, the time stamps tell the numbers without decoding; everywhere else the whole file is
decoded once, and a frame is known by a checksum of its pixels.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import av
import google_crc32c
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from trivd.config import VideoLimits
from trivd.data.formats.boxes import kept_share
from trivd.data.formats.containers import OpenVideo, opened
from trivd.data.formats.frames import UnreadableVideo, check_frame, check_length

COMPLETE = 0.98  # share of what a cut file promises from which on it counts as whole
CACHED_FRAMES = 1 << 23  # of all videos whose index a process keeps: about 64 MB
# Formats that store a time stamp with each packet, and codecs whose packets are one frame each.
STAMPED_FORMATS = ("mp4", "matroska", "mpegts", "flv")
STAMPED_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "prores", "dnxhd", "mjpeg", "ffv1", "rawvideo"})
SOUGHT_BY_DISPLAY = ("mp4", "matroska")  # whose seeking goes by when a frame is shown; elsewhere by when it is decoded
BEFORE_ALL = -(1 << 63)  # a time
COMPARED = 3  # first frames whose time stamps must be the packets', else the whole file is decoded


class Entry(NamedTuple):
    """A keyframe from which a file can be decoded."""

    number: int  # of its frame
    timestamp: int  # to seek to, in the stream's time base


@dataclass
class FrameIndex:
    """The frames of a file, in order."""

    height: int  # as shown
    width: int
    marks: NDArray[np.int64]  # what each frame is known by: its time stamp, or a checksum of its pixels
    by_content: bool  # which of the two
    entries: list[Entry] = field(default_factory=list)  # in order; those that turn out inexact are removed
    seekable: bool = True  # False: there are keyframes, but no exact way in

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.marks)

    def mark(self, frame: av.VideoFrame) -> int | None:
        """What a decoded frame is known by."""
        return checksum(frame) if self.by_content else frame.pts

    def entry(self, number: int) -> Entry | None:
        """The last one from which frame `number` can be reached; None: from the beginning only."""
        place = bisect_right(self.entries, number, key=lambda entry: entry.number)
        return self.entries[place - 1] if place else None

    def remove(self, entry: Entry) -> None:
        """Strike out an entry that does not lead to the right frames; where a second one fails, all of them."""
        self.entries.remove(entry)
        if not self.seekable:
            self.entries.clear()
        self.seekable = False


def frames_from(video: OpenVideo, index: FrameIndex, entry: Entry) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their numbers from an entry on, for as long as they are those of the index."""
    number = None
    try:
        video.container.seek(entry.timestamp, stream=video.stream)
        for place, frame in enumerate(video.decoded()):
            mark = index.mark(frame)
            if number is not None:
                number += 1
            elif mark == index.marks[entry.number]:
                number = entry.number
            elif place < entry.number:  # a seek may lead to an earlier keyframe
                continue
            if number is None or number >= index.frames or mark != index.marks[number]:
                return
            if frame.is_corrupt and not index.by_content:  # how it was mended may depend on what was decoded before
                return
            yield number, frame
    except (av.error.FFmpegError, UnreadableVideo):  # what it needs lies before the entry, if it is not damaged itself
        return


class _Cache:
    """The indexes used last, up to `CACHED_FRAMES` frames; several threads may use it."""

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
    """The index of a file, made once and remembered.

    Raises:
        UnreadableVideo: it has no frame, is truncated or damaged, or is beyond the limits.
    """
    return _cache.get(path, limits, rebuild=False)


def decoded_index(path: Path, limits: VideoLimits) -> FrameIndex:
    """The same for a file whose time stamps were found to mislead: remembered instead of the other one."""
    return _cache.get(path, limits, rebuild=True)


def checksum(frame: av.VideoFrame) -> int:
    """CRC-32C of a frame's pixels as they were decoded, without the padding of rows."""
    if any(plane.line_size < 0 for plane in frame.planes):  # from the bottom up, which PyAV's buffers do not know
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


def _build(path: Path, limits: VideoLimits, by_content: bool) -> FrameIndex:
    if not by_content:
        with opened(path, limits) as video:
            is_stamped = any(name in video.container.format.name for name in STAMPED_FORMATS)
            index = _Scan(video).by_timestamps() if is_stamped and video.codec in STAMPED_CODECS else None
        if index is not None:
            return index
    with opened(path, limits) as video:
        index = _Scan(video).by_content()
    if index.entries:  # a look at one of them tells whether there is an exact way in
        entry = index.entries[len(index.entries) // 2]
        with opened(path, limits) as video:
            wanted = min(2, index.frames - entry.number)
            index.seekable = len([*zip(range(wanted), frames_from(video, index, entry), strict=False)]) == wanted
        if not index.seekable:
            index.entries.clear()
    return index


class _Scan:
    """One pass over a file's packets."""

    def __init__(self, video: OpenVideo) -> None:
        self.video = video
        self.first: av.VideoFrame | None = None
        self.packets = 0  # that are whole, hidden ones too
        self.end = 0  # of the last packet that is whole, in the stream's time base

    def by_timestamps(self) -> FrameIndex | None:
        """The index by the packets' time stamps; None where they do not tell frames apart.

        Raises:
            UnreadableVideo: there is no frame, the file is truncated, or it is beyond the limits.
        """
        shown: list[int] = []
        keys: list[tuple[int, int]] = []  # time stamp, and what to seek to
        decoded: list[int | None] = []
        last = None  # when the packet before is decoded
        latest = group = BEFORE_ALL  # when the last of all packets, and the last keyframe, are shown
        by_display = any(name in self.video.container.format.name for name in SOUGHT_BY_DISPLAY)
        for packet in self.video.packets():
            if packet.is_corrupt:
                if not by_display:  # a recording that was joined or received badly
                    return None
                break  # the end of the file fell into this packet
            if packet.size:
                if packet.pts is None or (packet.dts is not None and last is not None and packet.dts < last):
                    return None
                # Frames shown before a keyframe but stored behind it may lack what they refer to, where parts were
                # joined, and decoders then leave them out.
                if packet.pts < group or (packet.is_keyframe and packet.pts <= latest):
                    return None
                last, latest = packet.dts, max(latest, packet.pts)
                group = packet.pts if packet.is_keyframe else group
                self._note(packet)
                if self._is_shown(packet):
                    shown.append(packet.pts)
                    check_length(self.video.path, len(shown), self.video.limits)
                    if packet.is_keyframe:
                        keys.append((packet.pts, packet.pts if by_display or packet.dts is None else packet.dts))
            if len(decoded) < COMPARED:
                decoded += [frame.pts for frame in self._frames(packet)]
        shown.sort()
        if len(set(shown)) < len(shown) or decoded[:COMPARED] != shown[:COMPARED]:
            return None
        marks = np.array(shown, np.int64)
        entries = [Entry(int(np.searchsorted(marks, pts)), timestamp) for pts, timestamp in keys]
        return self._index(marks, False, entries)

    def by_content(self) -> FrameIndex:
        """The index by what all frames look like.

        Raises:
            UnreadableVideo: there is no frame, the file is truncated or damaged, or it is beyond the limits.
        """
        self.video.stream.codec_context.copy_opaque = True  # a frame then carries what its packet was marked with
        marks: list[int] = []
        entries: list[Entry] = []
        for packet in self.video.packets():
            if packet.size:
                self._note(packet)
                if packet.is_keyframe:
                    packet.opaque = packet.dts if packet.dts is not None else packet.pts
            for frame in self._frames(packet):
                if frame.key_frame and isinstance(frame.opaque, int) and marks:
                    entries.append(Entry(len(marks), frame.opaque))
                marks.append(checksum(frame))
                check_length(self.video.path, len(marks), self.video.limits)
        return self._index(np.array(marks, np.int64), True, entries)

    def _note(self, packet: Packet[VideoStream]) -> None:
        self.packets += 1
        time = packet.dts if packet.pts is None else packet.pts
        self.end = max(self.end, (time or 0) + (packet.duration or 0))

    def _is_shown(self, packet: Packet[VideoStream]) -> bool:
        """Whether a frame comes of it: not where an edit list cuts it off, nor of VP8's hidden reference frames."""
        hidden = self.video.codec == "vp8" and not memoryview(packet)[0] & 0x10  # bit show_frame, RFC 6386 9.1
        return not (packet.is_discard or hidden)

    def _frames(self, packet: Packet[VideoStream]) -> list[av.VideoFrame]:
        frames = self.video.decode(packet, self.first is not None)
        self.first = self.first or next(iter(frames), None)
        return frames

    def _index(self, marks: NDArray[np.int64], by_content: bool, entries: list[Entry]) -> FrameIndex:
        path = self.video.path
        if self.first is None or not len(marks):
            reason = "truncated" if self.video.stream.frames else "empty"
            raise UnreadableVideo(path, reason, "it holds no frame")
        self._check_whole(len(marks))
        height, width = self.video.geometry(self.first).shown(self.first.height, self.first.width)
        check_frame(path, height, width, self.video.limits)
        return FrameIndex(height, width, marks, by_content, sorted(entries))

    def _check_whole(self, frames: int) -> None:
        """Raises UnreadableVideo for a file that was cut and has lost frames, not only an index at its end."""
        kept = kept_share(self.video.path)
        if kept == 1:
            return
        stream = self.video.stream
        if "mp4" in self.video.container.format.name:
            seen, promised, room = Fraction(self.packets), Fraction(len(stream.index_entries)), Fraction(1)
        else:
            second = stream.time_base or Fraction(1)
            seen, promised = self.end * second, promised_seconds(self.video)
            room = 2 / (stream.average_rate or Fraction(25))
        if seen + room < COMPLETE * promised or (promised == 0 and kept < COMPLETE):
            share = float(seen / promised) if promised else kept
            raise UnreadableVideo(self.video.path, "truncated", f"it ends after frame {frames:,}, at {share:.0%} of it")


def promised_seconds(video: OpenVideo) -> Fraction:
    """The time at which the header says that the video ends; 0 where it does not say."""
    stream = video.stream
    tag = stream.metadata.get("DURATION")  # Matroska: of this stream alone, "00:00:03.200000000"
    if tag is not None and (parts := re.fullmatch(r"(\d{1,6}):(\d{1,2}):(\d{1,2}\.?\d{0,12})", tag)):
        return int(parts[1]) * 3600 + int(parts[2]) * 60 + Fraction(parts[3])
    if video.container.format.name == "avi" and stream.time_base is not None:  # its duration is what FFmpeg has found
        return stream.frames * stream.time_base
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    is_shared = "matroska" in video.container.format.name and len(video.container.streams) > 1
    if video.container.duration is None or is_shared:  # by streams of which another one may last longer
        return Fraction(0)
    return Fraction(video.container.duration, av.time_base)
