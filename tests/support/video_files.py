"""Small videos made by real encoders; each frame shows its number as a brightness."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

LEVEL = 3  # brightness from one frame to the next
CODECS = {
    ".mp4": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".avi": "mpeg4",
    ".webm": "libvpx-vp9",
    ".gif": "gif",
}
PIXELS = {"gif": "rgb8", "mjpeg": "yuvj420p"}


def numbered_frames(count: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """(count, height, width, 3): a grey slope, brighter from frame to frame, and a red corner at the top left."""
    slope = np.linspace(0, 40, width)[None, :, None] + np.zeros((height, 1, 3))
    frames = 20 + slope + LEVEL * (np.arange(count) % 60)[:, None, None, None]
    frames[:, : height // 3, : width // 4] = (255, 0, 0)
    return frames.astype(np.uint8)


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    codec: str | None = None,
    *,
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    muxer_options: dict[str, str] | None = None,
) -> Path:
    """Encode `frames` (T, H, W, 3); `times` are their timestamps in 1/100 s, by default four apart."""
    codec = codec or CODECS[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=muxer_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
