"""Video files through PyAV: a cheap check, and frames from any number on, exact to the frame."""

from __future__ import annotations  # PyAV's packets are generic for the type checker alone

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from trivd.config import VideoLimits
from trivd.data.boxes import check_tables
from trivd.data.frames import (
    Frame,
    FrameConverter,
    OverLimit,
    UnreadableVideo,
    VideoInfo,
    check_frame,
    check_length,
    quarter_turns,
)

COMPLETE = 0.98  # share of the declared length below which a file counts as truncated
CACHED_TIMESTAMPS = 256  # videos whose timestamps a process remembers
DECODER_ROOM = 1 << 20  # pixels by which decoders pad frames at most; MPEG-4 makes 20 times as many of tiny ones
FORMATS = (
    "mov,m4v,matroska,webm,avi,gif,mpeg,mpegts,mpegvideo,asf,flv,ogg"  # playlists, which name other files, are none
)


def probe(path: Path, limits: VideoLimits) -> VideoInfo:
    """Look at each packet without decoding it, and at the first frame.

    A truncated file is told by what its header promises. GIF and MPEG-TS promise nothing: they are used as they are.

    Raises:
        UnreadableVideo: zero bytes, not a video, no video stream, truncated, damaged, empty, or beyond the limits.
    """
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "zero bytes")
    with _opened(path, limits) as (container, stream):
        declared = _declared_frames(container, stream)
        first: av.VideoFrame | None = None
        frames, end = 0, 0
        for packet in _packets(container, stream):
            if packet.is_corrupt:  # the end of the file fell into this packet
                break
            if first is None:
                first = next(iter(packet.decode()), None)
            frames += _is_shown(packet, stream)
            check_length(path, frames, limits)
            if packet.pts is not None:
                end = max(end, packet.pts + (packet.duration or 0))
        if first is None:  # a decoder may hold its first frame back until it has seen the last packet
            first = next(iter(stream.codec_context.decode(None)), None)
        if first is None or frames == 0:
            raise UnreadableVideo(path, "truncated" if stream.frames else "empty", "it holds no frame")
        if frames + 1 < COMPLETE * declared:
            raise UnreadableVideo(path, "truncated", f"{frames} of {declared} frames")
        duration = _declared_duration(container, stream)
        seen = (end - (stream.start_time or 0)) * (stream.time_base or Fraction(1))
        if duration is not None and seen + 2 / (stream.average_rate or 25) < COMPLETE * duration:
            raise UnreadableVideo(path, "truncated", f"{float(seen):.1f} of {float(duration):.1f} seconds")
        sides = first.height, first.width
        height, width = sides[::-1] if quarter_turns(first) % 2 else sides
        check_frame(path, height, width, limits)
        return VideoInfo(frames, height, width)


def frames(path: Path, start: int, stride: int, convert: FrameConverter, limits: VideoLimits) -> Iterator[Frame]:
    """Frames start, start + stride, ... up to the end of the file.

    Raises:
        UnreadableVideo: the file cannot be decoded, or is beyond the limits.
    """
    with _opened(path, limits) as (container, stream):
        decoded = _seek(path, container, stream, start, limits) if start else container.decode(stream)
        if decoded is not None:
            yield from map(convert, itertools.islice(_checked(path, decoded, limits), 0, None, stride))
            return
    with _opened(path, limits) as (container, stream):
        decoded = _checked(path, container.decode(stream), limits)
        yield from map(convert, itertools.islice(decoded, start, None, stride))


def _checked(path: Path, decoded: Iterator[av.VideoFrame], limits: VideoLimits) -> Iterator[av.VideoFrame]:
    """Frames while they are within the limits: there may be more than packets, and their size may change."""
    for number, frame in enumerate(decoded, start=1):
        check_length(path, number, limits)
        check_frame(path, frame.height, frame.width, limits)
        yield frame


def _decoder_pixels(limits: VideoLimits) -> str:
    """What a decoder may take memory for; it counts its own padding, so what it gives is checked again."""
    return str(limits.max_frame_pixels + DECODER_ROOM)


def open_options(limits: VideoLimits) -> dict[str, str]:
    """FFmpeg's options for any file: nothing in it may send us to another place, or ask for too large a frame."""
    return {"protocol_whitelist": "file", "max_pixels": _decoder_pixels(limits)}


def limit_decoder(path: Path, stream: VideoStream, limits: VideoLimits) -> None:
    """Hold a decoder to the limits before it takes memory, whatever the header says or the stream changes to.

    Raises:
        OverLimit: the header says that frames are too large.
    """
    context = stream.codec_context
    check_frame(path, max(context.height, 1), max(context.width, 1), limits)  # 0: told by the first packet only
    context.options = {"max_pixels": _decoder_pixels(limits)}


def exceeds_decoder(error: av.error.FFmpegError) -> bool:
    """Whether a decoder may have refused frames for their size; all it says is that it was asked for too much."""
    return isinstance(error, av.error.ArgumentError | av.error.MemoryError)


@contextmanager
def _opened(path: Path, limits: VideoLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video; FFmpeg's errors become ours."""
    check_tables(path)
    is_open = False
    try:
        # "file:" keeps a colon in a name from being read as a protocol.
        options = open_options(limits) | {"format_whitelist": FORMATS}
        with av.open(f"file:{path}", options=options, metadata_errors="ignore") as container:
            is_open = True
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:  # or a cover
                raise UnreadableVideo(path, "no video stream")
            if stream.codec_context is None:
                raise UnreadableVideo(path, "unknown codec")
            limit_decoder(path, stream, limits)
            # Videos are read by several processes at once; threads would only fight over the same cores.
            stream.codec_context.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.error.EOFError as error:
        raise UnreadableVideo(path, "truncated") from error
    except av.error.InvalidDataError as error:
        raise UnreadableVideo(path, "damaged" if is_open else "not a video, or truncated") from error
    except av.error.FFmpegError as error:
        if not is_open and isinstance(error, av.error.ArgumentError):  # none of FORMATS
            raise UnreadableVideo(path, "not a video") from error
        if is_open and exceeds_decoder(error):
            raise OverLimit(path, "damaged, or over limits.max_frame_pixels", error.strerror or "") from error
        raise UnreadableVideo(path, "cannot be decoded", error.strerror or "") from error


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Packets in the order of the file, without the empty one that ends PyAV's iteration."""
    return (packet for packet in container.demux(stream) if packet.size > 0)


def _is_shown(packet: Packet[VideoStream], stream: VideoStream) -> bool:
    """Whether a frame comes out of it: not when an edit list cuts it off, nor for VP8's hidden reference frames."""
    hidden = stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10  # bit show_frame, RFC 6386 9.1
    return not (packet.is_discard or hidden)


def _declared_frames(container: InputContainer, stream: VideoStream) -> int:
    """Packets that the header promises; 0 where it does not say."""
    if "mp4" in container.format.name:
        return len(stream.index_entries)  # unlike the header's count, without those that an edit list removes
    return int(stream.frames)


def _declared_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds of video that a Matroska or WebM header promises, which declare no number of frames."""
    if "matroska" not in container.format.name:
        return None
    tag = stream.metadata.get("DURATION")  # of this stream alone, "00:00:03.200000000"
    if tag is not None and (parts := re.fullmatch(r"(\d{1,6}):(\d{1,2}):(\d{1,2}\.?\d{0,12})", tag)):
        return int(parts[1]) * 3600 + int(parts[2]) * 60 + Fraction(parts[3])
    if container.duration is None or len(container.streams) > 1:  # another stream may last longer
        return None
    return Fraction(container.duration, av.time_base)


@lru_cache(maxsize=CACHED_TIMESTAMPS)
def _timestamps(path: Path, modified: int, limits: VideoLimits) -> tuple[list[int], list[tuple[int, int]]] | None:
    """Of all frames in the order they are shown; and of keyframes: when they are shown, when they are decoded.

    None where timestamps are missing or repeated, so that they do not tell frames apart. `modified`, the file's time,
    only keeps a replaced file from being taken for the one remembered.
    """
    shown, keys = [], []
    with _opened(path, limits) as (container, stream):
        for packet in _packets(container, stream):
            if packet.pts is None:
                return None
            if _is_shown(packet, stream):
                shown.append(packet.pts)
                check_length(path, len(shown), limits)
            if packet.is_keyframe:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
    return (sorted(shown), sorted(keys)) if len(set(shown)) == len(shown) else None


def _seek(
    path: Path, container: InputContainer, stream: VideoStream, start: int, limits: VideoLimits
) -> Iterator[av.VideoFrame] | None:
    """Frames from number `start` on, decoded from the keyframe before; None if it must be done from the beginning."""
    timestamps = _timestamps(path, path.stat().st_mtime_ns, limits)
    if timestamps is None or start >= len(timestamps[0]):
        return None
    wanted = timestamps[0][start]
    # Frames shown before a keyframe but stored behind it may depend on frames that a seek leaves out; so the keyframe
    # must itself be shown no later than the wanted frame.
    before = [decoded for shown, decoded in timestamps[1] if shown <= wanted]
    if not before:
        return None
    container.seek(before[-1], stream=stream)
    decoded = itertools.dropwhile(lambda frame: frame.pts is None or frame.pts < wanted, container.decode(stream))
    first = next(decoded, None)
    if first is None or first.pts != wanted:
        return None
    return itertools.chain([first], decoded)
