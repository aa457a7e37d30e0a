"""What every reader of videos shares: what is known of a video, why one cannot be read, and the size of its frames."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from trivd.config import VideoLimits
from trivd.errors import TrivdError

Frame = NDArray[np.uint8]  # (H, W, C)
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT  # same pixels on any CPU


@dataclass(frozen=True)
class VideoInfo:
    """A video at a glance; height and width as it is seen, after rotation."""

    frames: int
    height: int
    width: int


class UnreadableVideo(TrivdError):  # noqa: N818
    """A file that cannot be used as a video.

    Args:
        path: the file or folder.
        reason: a few words, the same for all files that share it ("truncated").
        detail: what is particular to this one ("12 of 80 frames"), or "".
    """

    remedy = "repair or remove it"

    def __init__(self, path: Path, reason: str, detail: str = "") -> None:
        super().__init__(path, reason, detail)  # all three, so that it survives the way out of a worker process
        self.path = path
        self.reason = reason
        self.detail = detail

    @property
    def why(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason

    def __str__(self) -> str:
        return f"{self.path} cannot be used as a video: {self.why}; {self.remedy}."


class OverLimit(UnreadableVideo):
    """One that asks more of the machine than `VideoLimits` allow; the reason names the setting."""

    remedy = "remove it, or raise that limit if you trust it"


def check_frame(path: Path, height: int, width: int, limits: VideoLimits) -> None:
    """Raises OverLimit if frames have too many pixels, or are too long and narrow."""
    size = f"{width:,} x {height:,} pixels"
    if height * width > limits.max_frame_pixels:
        raise OverLimit(path, "over limits.max_frame_pixels", f"{size}, {limits.max_frame_pixels:,} allowed")
    if max(height, width) > limits.max_aspect_ratio * min(height, width):
        raise OverLimit(path, "over limits.max_aspect_ratio", f"{size}, {limits.max_aspect_ratio} : 1 allowed")


def check_length(path: Path, frames: int, limits: VideoLimits) -> None:
    """Raises OverLimit if a video has too many frames."""
    if frames > limits.max_video_frames:
        raise OverLimit(path, "over limits.max_video_frames", f"more than {limits.max_video_frames:,} frames")


def check_bytes(path: Path, size: int, limits: VideoLimits) -> None:
    """Raises OverLimit if a video that must be held in memory whole is too large for that."""
    if size > limits.max_video_bytes:
        raise OverLimit(path, "over limits.max_video_bytes", f"{size:,} bytes, {limits.max_video_bytes:,} allowed")


def resized(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width after the short side has become `short_side` pixels; None keeps them."""
    if short_side is None:
        return height, width
    short = min(height, width)
    return (
        max(short_side, round(height * short_side / short)),
        max(short_side, round(width * short_side / short)),
    )


class FrameConverter:
    """Turns decoded frames into upright arrays, colours converted and pixels resampled in one step.

    The first frame sets the size of all: some videos change theirs on the way.
    """

    def __init__(self, short_side: int | None, channels: int) -> None:
        self.short_side = short_side
        self.format = "rgb24" if channels == 3 else "gray"
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()  # keeps its filter tables from frame to frame

    def __call__(self, frame: av.VideoFrame) -> Frame:
        """One frame as (H, W, C) uint8."""
        self._size = self._size or resized(frame.height, frame.width, self.short_side)
        height, width = self._size
        shrinks = height < frame.height
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=self.format,
            interpolation=(Interpolation.AREA if shrinks else Interpolation.BICUBIC) | EXACT,
            threads=1,
        )
        array = np.asarray(converted.to_ndarray(), np.uint8).reshape(height, width, -1)
        return np.ascontiguousarray(np.rot90(array, quarter_turns(frame)))

    def array(self, array: Frame) -> Frame:
        """The same for a frame that is an array already, with 1 or 3 channels."""
        if array.shape[2] == 1:
            return self(av.VideoFrame.from_ndarray(np.ascontiguousarray(array[..., 0]), "gray"))
        return self(av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24"))


def quarter_turns(frame: av.VideoFrame) -> int:
    """How many quarter turns anticlockwise the file asks its viewer to make."""
    return round(frame.rotation / 90) % 4
