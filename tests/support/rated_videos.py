"""Videos of a constant rate, and the definition of which frames show them at another one."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from video_files import LEVEL, numbered_frames


def write_at(path: Path, count: int, rate: Fraction, codec: str | None = None, **options: str) -> Path:
    """Write `count` frames, which tell their numbers (see `numbers`)."""
    codec = codec or {".avi": "mpeg4"}.get(path.suffix, "libx264")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for array in numbered_frames(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
        container.mux(stream.encode(None))
    return path


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    """The numbers of some of the first 60 frames of `write_at`, of any height."""
    brightness = frames[:, frames.shape[1] // 2 :, :, 1].mean(axis=(1, 2))
    return [round((value - 40) / LEVEL) for value in brightness]


def nearest(times: Sequence[Fraction], end: Fraction, fps: Fraction, start: int = 0, stride: int = 1) -> list[int]:
    """The definition: frame n shows the frame whose time is nearest to n / fps, the earlier one of two.

    Args:
        times: of all frames, in seconds.
        end: of the last one.
        fps: the other rate.
        start, stride: which frames at that rate.
    """
    count = max(1, math.floor((end - times[0]) * fps + Fraction(1, 2)))
    moments = [times[0] + n / fps for n in range(start, count, stride)]
    return [min(range(len(times)), key=lambda k: (abs(times[k] - moment), k)) for moment in moments]


def nearest_of_constant(count: int, rate: Fraction, fps: Fraction) -> list[int]:
    """The same for a video of `count` frames at a constant rate."""
    return nearest([n / rate for n in range(count)], count / rate, fps)
