"""Video files opened through PyAV within the limits: their packets, and the frames decoded from them in order."""

from __future__ import annotations  # PyAV's packets are generic for the type checker alone

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from trivd.config import VideoLimits
from trivd.data.formats.boxes import check_tables, is_cut
from trivd.data.formats.frames import (
    AS_STORED,
    Geometry,
    OverLimit,
    UnreadableVideo,
    check_frame,
    check_length,
    frame_geometry,
)

DECODER_ROOM = 1 << 20  # pixels by which decoders pad frames at most; MPEG-4 makes 20 times as many of tiny ones
# Playlists, which name other files, are not among them.
FORMATS = "mov,m4v,matroska,webm,avi,gif,mpeg,mpegts,mpegvideo,asf,flv,ogg,dv,mxf,h264,hevc,ivf,yuv4mpegpipe"


@dataclass
class OpenVideo:
    """A file's container and its video stream."""

    path: Path
    container: InputContainer
    stream: VideoStream
    limits: VideoLimits
    _rotation: int | None = None  # rotation of the frame that `_geometry` was computed for
    _geometry: Geometry = AS_STORED

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, independent of the decoder."""
        return self.stream.codec_context.codec.canonical_name

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets in the order of the file from the current position; the last one is empty and flushes the decoder."""
        demuxed = self.container.demux(self.stream)
        while True:
            try:
                packet = next(demuxed, None)
            except IndexError as error:  # damage looked like one more stream, which PyAV does not know
                raise UnreadableVideo(self.path, "damaged") from error
            if packet is None:
                return
            if packet.size > 0 or packet.dts is None:  # AVI has empty ones where a frame was dropped
                yield packet

    def decode(self, packet: Packet[VideoStream], begun: bool) -> list[av.VideoFrame]:
        """Frames that a packet completes; none for a damaged packet at the beginning of a recording or in a cut file.

        Args:
            packet: the next packet.
            begun: whether a frame has been decoded before.
        """
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if begun and not is_cut(self.path):
                raise
            return []
        for frame in frames:  # their size may change on the way
            check_frame(self.path, frame.height, frame.width, self.limits)
        return frames

    def decoded(self) -> Iterator[av.VideoFrame]:
        """Frames in display order, from the current position to the end."""
        number = 0
        for packet in self.packets():
            for frame in self.decode(packet, number > 0):
                number += 1
                check_length(self.path, number, self.limits)
                yield frame

    def geometry(self, frame: av.VideoFrame) -> Geometry:
        """Geometry in which players display a frame; browsers ignore the pixel aspect of a GIF."""
        if frame.rotation != self._rotation:  # the whole matrix takes longer to look up
            aspect = None if self.container.format.name == "gif" else self.stream.sample_aspect_ratio
            self._rotation, self._geometry = frame.rotation, frame_geometry(frame, Fraction(aspect or 1))
        return self._geometry


@contextmanager
def opened(path: Path, limits: VideoLimits) -> Iterator[OpenVideo]:
    """Open a video file; within the context, FFmpeg's errors are raised as UnreadableVideo.

    Raises:
        UnreadableVideo: the file is no video, is damaged, or is beyond the limits.
    """
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
            yield OpenVideo(path, container, stream, limits)
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


def open_options(limits: VideoLimits) -> dict[str, str]:
    """FFmpeg's options for any file: it may neither refer to other places, nor ask for too large a frame."""
    return {"protocol_whitelist": "file", "max_pixels": _decoder_pixels(limits)}


def limit_decoder(path: Path, stream: VideoStream, limits: VideoLimits) -> None:
    """Limit a decoder before it allocates memory, whatever the header says or the stream changes to.

    Raises:
        OverLimit: the header says that frames are too large.
    """
    context = stream.codec_context
    check_frame(path, max(context.height, 1), max(context.width, 1), limits)  # 0: known only from the first packet
    context.options = {"max_pixels": _decoder_pixels(limits)}


def exceeds_decoder(error: av.error.FFmpegError) -> bool:
    """Whether a decoder may have refused frames for their size; its error is not more specific."""
    return isinstance(error, av.error.ArgumentError | av.error.MemoryError)


def _decoder_pixels(limits: VideoLimits) -> str:
    """Largest number of pixels of a decoder, its padding included; so decoded frames are checked again."""
    return str(limits.max_frame_pixels + DECODER_ROOM)
