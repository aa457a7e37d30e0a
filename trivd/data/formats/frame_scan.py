"""One pass over a video file's packets, which gives its frame index and finds out whether the file was cut.

Where each packet is one frame with a time stamp of its own, the time stamps tell the frames apart without decoding;
everywhere else the whole file is decoded once.
"""

from __future__ import annotations

import re
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from trivd.data.formats.boxes import kept_share
from trivd.data.formats.containers import OpenVideo
from trivd.data.formats.frame_index import EntryPoint, FrameIndex, checksum
from trivd.data.formats.frame_times import FrameTimes, frame_times
from trivd.data.formats.frames import UnreadableVideo, check_frame, check_length

COMPLETE = 0.98  # least share of its promised length at which a cut file counts as whole
SOUGHT_BY_DISPLAY = ("mp4", "matroska")  # formats that seek by presentation time; others seek by decoding time
BEFORE_ALL = -(1 << 63)  # a time before all others
COMPARED = 3  # first frames; if their time stamps are not the packets', the whole file is decoded


class FrameScan:
    """One pass over a file's packets."""

    def __init__(self, video: OpenVideo) -> None:
        self.video = video
        self.first: av.VideoFrame | None = None
        self.packets = 0  # whole packets, including hidden ones
        self.end = 0  # end of the last whole packet, in the stream's time base

    def by_timestamps(self) -> FrameIndex | None:
        """The index by the packets' time stamps; None if they do not tell frames apart.

        Raises:
            UnreadableVideo: there is no frame, the file is truncated, or it is beyond the limits.
        """
        shown: list[int] = []
        keys: list[tuple[int, int]] = []  # presentation time, and time to seek to
        decoded: list[int | None] = []
        last = None  # decoding time of the packet before
        latest = group = final = BEFORE_ALL  # presentation times: latest packet, last keyframe, latest shown packet
        duration = 0  # of the latest shown packet
        by_display = any(name in self.video.container.format.name for name in SOUGHT_BY_DISPLAY)
        for packet in self.video.packets():
            if packet.is_corrupt:
                if not by_display:  # a recording that was joined or badly received
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
                    if packet.pts > final:
                        final, duration = packet.pts, packet.duration or 0
                    check_length(self.video.path, len(shown), self.video.limits)
                    if packet.is_keyframe:
                        keys.append((packet.pts, packet.pts if by_display or packet.dts is None else packet.dts))
            if len(decoded) < COMPARED:
                decoded += [frame.pts for frame in self._frames(packet)]
        shown.sort()
        if len(set(shown)) < len(shown) or decoded[:COMPARED] != shown[:COMPARED]:
            return None
        marks = np.array(shown, np.int64)
        entry_points = [EntryPoint(int(np.searchsorted(marks, pts)), timestamp) for pts, timestamp in keys]
        return self._index(marks, self._times(marks, duration), False, entry_points)

    def by_content(self) -> FrameIndex:
        """The index by the contents of all frames.

        Raises:
            UnreadableVideo: there is no frame, the file is truncated or damaged, or it is beyond the limits.
        """
        self.video.stream.codec_context.copy_opaque = True  # a frame then carries what its packet was marked with
        marks: list[int] = []
        stamps: list[int | None] = []
        duration = 0  # of the last frame
        entry_points: list[EntryPoint] = []
        for packet in self.video.packets():
            if packet.size:
                self._note(packet)
                if packet.is_keyframe:
                    packet.opaque = packet.dts if packet.dts is not None else packet.pts
            for frame in self._frames(packet):
                if frame.key_frame and isinstance(frame.opaque, int) and marks:
                    entry_points.append(EntryPoint(len(marks), frame.opaque))
                marks.append(checksum(frame))
                stamps.append(frame.pts)
                duration = frame.duration or 0
                check_length(self.video.path, len(marks), self.video.limits)
        return self._index(np.array(marks, np.int64), self._times(stamps, duration), True, entry_points)

    def _note(self, packet: Packet[VideoStream]) -> None:
        self.packets += 1
        time = packet.dts if packet.pts is None else packet.pts
        self.end = max(self.end, (time or 0) + (packet.duration or 0))

    def _is_shown(self, packet: Packet[VideoStream]) -> bool:
        """Whether a packet's frame is shown: not if an edit list cuts it off, nor if it is a hidden frame of VP8."""
        hidden = self.video.codec == "vp8" and not memoryview(packet)[0] & 0x10  # bit show_frame, RFC 6386 9.1
        return not (packet.is_discard or hidden)

    def _frames(self, packet: Packet[VideoStream]) -> list[av.VideoFrame]:
        frames = self.video.decode(packet, self.first is not None)
        self.first = self.first or next(iter(frames), None)
        return frames

    def _times(self, stamps: list[int | None] | NDArray[np.int64], duration: int) -> FrameTimes | None:
        stream = self.video.stream
        return frame_times(stamps, duration, stream.time_base, stream.guessed_rate) if len(stamps) else None

    def _index(
        self, marks: NDArray[np.int64], times: FrameTimes | None, by_content: bool, entry_points: list[EntryPoint]
    ) -> FrameIndex:
        path = self.video.path
        if self.first is None or not len(marks):
            reason = "truncated" if self.video.stream.frames else "empty"
            raise UnreadableVideo(path, reason, "it holds no frame")
        self._check_whole(len(marks))
        height, width = self.video.geometry(self.first).shown(self.first.height, self.first.width)
        check_frame(path, height, width, self.video.limits)
        return FrameIndex(height, width, marks, by_content, times, sorted(entry_points))

    def _check_whole(self, frames: int) -> None:
        """Raise UnreadableVideo for a file that was cut and has lost frames, not only an index at its end."""
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
    """End of the video according to the header, in seconds; 0 if it is not given."""
    stream = video.stream
    tag = stream.metadata.get("DURATION")  # Matroska: duration of this stream alone, "00:00:03.200000000"
    if tag is not None and (parts := re.fullmatch(r"(\d{1,6}):(\d{1,2}):(\d{1,2}\.?\d{0,12})", tag)):
        return int(parts[1]) * 3600 + int(parts[2]) * 60 + Fraction(parts[3])
    if (
        video.container.format.name == "avi" and stream.time_base is not None
    ):  # its duration is what FFmpeg has found in the file
        return stream.frames * stream.time_base
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    is_shared = "matroska" in video.container.format.name and len(video.container.streams) > 1
    if video.container.duration is None or is_shared:  # by streams, another one of which may last longer
        return Fraction(0)
    return Fraction(video.container.duration, av.time_base)
