"""Conversion between pixels, uint8 (..., H, W, C), and videos of the networks, float (..., C, H, W) in [-1, 1]."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from trivd.runtime.errors import TrivdError

Pixels = npt.NDArray[np.uint8]  # (..., H, W, C)
Frames = npt.NDArray[Any] | Tensor | Sequence[Any]  # one clip in any form that `as_pixels` takes


def as_pixels(frames: Frames) -> Pixels:
    """The frames of one clip as a contiguous, writable array, whose memory torch can share.

    Args:
        frames: uint8 from 0 to 255: an array or tensor (T, H, W, C) with C = 1 or 3, of any strides and device; or a
            list or tuple of T frames, each an array or tensor (H, W) or (H, W, C), or an image of Pillow.

    Returns:
        (T, H, W, C) uint8, C = 1 or 3.

    Raises:
        TrivdError: the frames are something else, which the message names.
    """
    if isinstance(frames, list | tuple):
        arrays = [_as_array(frame) for frame in frames]
        if len({(array.shape, array.dtype) for array in arrays}) > 1:
            shapes = sorted({f"{array.dtype} {array.shape}" for array in arrays})
            raise TrivdError(f"Frames must be of one size and type, not {' and '.join(shapes)}.")
        array = np.stack(arrays) if arrays else np.zeros((0, 1, 1, 1), np.uint8)
        if array.ndim == 3:  # a list of grey frames
            array = array[..., None]
    else:
        array = _as_array(frames)
    if array.dtype != np.uint8:
        raise TrivdError(
            f"Frames must be uint8 (T, H, W, 1 or 3) from 0 to 255, not {array.dtype} {array.shape}"
            f"{_remedy(array.dtype)}."
        )
    if array.ndim == 5:
        raise TrivdError(f"Frames of one clip at a time are taken, (T, H, W, 1 or 3), not a batch {array.shape}.")
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
        raise TrivdError(f"Frames must be uint8 (T, H, W, 1 or 3), not uint8 {array.shape}.")
    return np.require(array, requirements=("C", "W"))


def _as_array(frames: Any) -> npt.NDArray[Any]:
    """Anything that holds numbers as an array."""
    if isinstance(frames, Tensor):
        frames = frames.detach().cpu()
        return frames.float().numpy() if frames.dtype == torch.bfloat16 else frames.numpy()
    if isinstance(frames, Image.Image):
        if frames.mode.startswith(("I", "F")):
            raise TrivdError(f"Images of Pillow's mode {frames.mode} have no 8-bit pixels; convert them to L or RGB.")
        return np.asarray(frames if frames.mode == "L" else frames.convert("RGB"))
    try:
        array = np.asarray(frames)
    except (ValueError, TypeError) as error:  # lists of different lengths, ...
        raise TrivdError(f"Frames must be uint8 (T, H, W, 1 or 3), which {type(frames).__name__} is not.") from error
    if array.dtype.kind not in "biufc":
        raise TrivdError(f"Frames must be uint8 (T, H, W, 1 or 3), which {type(frames).__name__} is not.")
    return array


def _remedy(dtype: np.dtype[Any]) -> str:
    """The end of a sentence that says how frames of another type become uint8."""
    if dtype.kind == "f":
        return "; those in [0, 1] become so by (255 * frames).round().astype('uint8')"
    if dtype.kind in "iu":
        return "; if they lie in 0 to 255, pass frames.astype('uint8')"
    return ""


def to_pixels(video: Tensor) -> Tensor:
    """Convert float (..., C, H, W) in [-1, 1] to uint8 (..., H, W, C) on the same device, rounded and clipped."""
    pixels = (video.detach().float().add(1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous()


def to_uint8(video: Tensor) -> Pixels:
    """`to_pixels` as a NumPy array; the inverse of `to_float` on all 256 values."""
    array: Pixels = to_pixels(video).cpu().numpy()
    return array


def to_float(video: Pixels | Tensor) -> Tensor:
    """Convert uint8 (..., H, W, C) to float32 (..., C, H, W) in [-1, 1] on the same device.

    Raises:
        TypeError: the values are not uint8, so their range is unknown.
    """
    # Torch takes no negative strides, and warns about read-only arrays.
    pixels = video if isinstance(video, Tensor) else torch.from_numpy(np.require(video, requirements=("C", "W")))
    if pixels.dtype != torch.uint8:
        raise TypeError(f"to_float takes uint8 pixels, not {pixels.dtype}.")
    return (pixels.float() / 127.5 - 1).movedim(-1, -3).contiguous()
