"""The common parts of all readers of videos: information, errors, limits, geometry, and conversion of frames."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from trivd.config import VideoLimits
from trivd.runtime.errors import TrivdError

Frame = NDArray[np.uint8]  # (H, W, C)
READER = 2  # version of all readers; raised when their output for some file changes, since stores keep it
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT  # same pixels on any CPU


@dataclass(frozen=True)
class VideoInfo:
    """Length of a video, and its size as displayed."""

    frames: int
    height: int
    width: int
    seekable: bool = True  # False: only reading from the beginning gives the right frames
    rate: float | None = None  # frames a second of its own, where it is read at another rate; None: as it is
    evenly: bool = False  # whether that rate is the header's, since time stamps are missing or cannot be right


class UnreadableVideo(TrivdError):  # noqa: N818
    """A file that cannot be used as a video.

    Args:
        path: the file or folder.
        reason: a few words, the same for all files that share it ("truncated").
        detail: particulars of this file ("12 of 80 frames"), or "".
    """

    remedy = "repair or remove it"

    def __init__(self, path: Path, reason: str, detail: str = "") -> None:
        super().__init__(path, reason, detail)  # all three, so that the error can be pickled
        self.path = path
        self.reason = reason
        self.detail = detail

    @property
    def why(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason

    def __str__(self) -> str:
        return f"{self.path} cannot be used as a video: {self.why}; {self.remedy}."


class OverLimit(UnreadableVideo):
    """A video beyond the `VideoLimits`; the reason names the setting."""

    remedy = "remove it, or raise that limit if you trust it"


def check_frame(path: Path, height: int, width: int, limits: VideoLimits) -> None:
    """Raise OverLimit if frames have too many pixels, or are too long and narrow."""
    size = f"{width:,} x {height:,} pixels"
    if height * width > limits.max_frame_pixels:
        raise OverLimit(path, "over limits.max_frame_pixels", f"{size}, {limits.max_frame_pixels:,} allowed")
    if max(height, width) > limits.max_aspect_ratio * min(height, width):
        raise OverLimit(path, "over limits.max_aspect_ratio", f"{size}, {limits.max_aspect_ratio} : 1 allowed")


def check_length(path: Path, frames: int, limits: VideoLimits) -> None:
    """Raise OverLimit if a video has too many frames."""
    if frames > limits.max_video_frames:
        raise OverLimit(path, "over limits.max_video_frames", f"more than {limits.max_video_frames:,} frames")


def check_resampled(path: Path, frames: int, fps: float, limits: VideoLimits) -> None:
    """Raise OverLimit if a video has too many frames at a rate: its time stamps may name any times."""
    if frames > limits.max_video_frames:
        raise OverLimit(path, "over limits.max_video_frames", f"its time stamps span {frames / fps:,.0f} s")


def check_bytes(path: Path, size: int, limits: VideoLimits) -> None:
    """Raise OverLimit if a video that must be held in memory as a whole is too large."""
    if size > limits.max_video_bytes:
        raise OverLimit(path, "over limits.max_video_bytes", f"{size:,} bytes, {limits.max_video_bytes:,} allowed")


def resized(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width after resizing the short side to `short_side` pixels; None keeps them."""
    if short_side is None:
        return height, width
    short = min(height, width)
    return (
        max(short_side, round(height * short_side / short)),
        max(short_side, round(width * short_side / short)),
    )


@dataclass(frozen=True)
class Geometry:
    """The way a stored frame is displayed: pixels made square first, then transposed, then mirrored."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel divided by its height

    def shown(self, height: int, width: int) -> tuple[int, int]:
        """Displayed height and width in square pixels; neither side loses pixels."""
        if self.pixel_aspect >= 1:
            width = round(width * self.pixel_aspect)
        else:
            height = round(height / self.pixel_aspect)
        return (width, height) if self.transposed else (height, width)

    def applied(self, array: Frame) -> Frame:
        """A frame of square pixels, transposed and mirrored as it is displayed."""
        if self.transposed:
            array = array.swapaxes(0, 1)
        return np.ascontiguousarray(array[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1])


AS_STORED = Geometry()


def frame_geometry(frame: av.VideoFrame, pixel_aspect: Fraction) -> Geometry:
    """The geometry of a decoded frame's display matrix, to the nearest quarter turn.

    The matrix (a b u, c d v, x y w) shows the pixel at (x, y) at (a x + c y, b x + d y), y pointing downwards.
    """
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know some other kind of side data that the frame has
        turns = round(frame.rotation / 90) % 4  # anticlockwise
        return Geometry(turns % 2 == 1, turns in (2, 3), turns in (1, 2), pixel_aspect)
    if matrix is None:
        return Geometry(pixel_aspect=pixel_aspect)
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Geometry(False, a < 0, d < 0, pixel_aspect)
    return Geometry(True, c < 0, b < 0, pixel_aspect)


class FrameConverter:
    """Converts decoded frames to arrays as displayed; colours are converted and pixels resampled in one step.

    The first frame sets the size of all, since some videos change theirs. One field of an interlaced frame is used,
    since the other one shows a later moment.
    """

    def __init__(self, short_side: int | None, channels: int) -> None:
        self.short_side = short_side
        self.format = "rgb24" if channels == 3 else "gray"
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()  # keeps its filter tables from frame to frame
        self._fields = _FieldFilter()

    def expect(self, height: int, width: int) -> None:
        """Set the displayed size of the video's first frame, if the first frame to be converted is another one."""
        self._size = self._size or resized(height, width, self.short_side)

    def __call__(self, frame: av.VideoFrame, geometry: Geometry = AS_STORED) -> Frame:
        """Convert one frame to (H, W, C) uint8."""
        self.expect(*geometry.shown(frame.height, frame.width))
        assert self._size is not None
        height, width = self._size[::-1] if geometry.transposed else self._size
        if frame.interlaced_frame:
            frame = self._fields(frame)
        shrinks = height < frame.height
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=self.format,
            interpolation=(Interpolation.AREA if shrinks else Interpolation.BICUBIC) | EXACT,
            threads=1,
        )
        return geometry.applied(np.asarray(converted.to_ndarray(), np.uint8).reshape(height, width, -1))

    def array(self, array: Frame) -> Frame:
        """Convert a frame that is an array already, (H, W, 1 or 3)."""
        if array.shape[2] == 1:
            return self(av.VideoFrame.from_ndarray(np.ascontiguousarray(array[..., 0]), "gray"))
        return self(av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24"))


class _FieldFilter:
    """Extracts the upper field of interlaced frames: every second row."""

    def __init__(self) -> None:
        self._layout: tuple[int, int, str] | None = None
        self._graph = Graph()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        layout = frame.width, frame.height, frame.format.name
        if layout != self._layout:
            self._layout, self._graph = layout, Graph()
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            field, sink = self._graph.add("field", "type=top"), self._graph.add("buffersink")
            source.link_to(field)
            field.link_to(sink)
            self._graph.configure()
        self._graph.push(frame)
        taken = self._graph.pull()
        assert isinstance(taken, av.VideoFrame)
        return taken
