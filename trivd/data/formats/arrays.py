"""Videos that are NumPy arrays: uint8, (T, H, W), (T, H, W, 1) or (T, H, W, 3).

Any other array is refused, with a message that says what it seems to be and how to save it.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trivd.config import VideoLimits
from trivd.data.formats.frames import UnreadableVideo, check_bytes, check_frame, check_length
from trivd.runtime.files import ARRAY_HEADER_LOCK, unpacked_sizes

ARRAY_SUFFIXES = (".npy", ".npz")
VIDEO_NAMES = ("video", "frames")  # name of the video in an .npz file with several arrays
CHANNELS = (1, 3)
MOST_CHANNELS = 4  # the longest last axis that is taken for channels, not for a width


def open_array(path: Path, limits: VideoLimits) -> NDArray[np.uint8]:
    """The array (T, H, W, C) with 1 or 3 channels; that of a .npy file stays on disk until its frames are used.

    Raises:
        UnreadableVideo: the file holds no array, one of another shape or type, several, or one beyond the limits.
    """
    try:
        with ARRAY_HEADER_LOCK:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
            array = _member(path, loaded, limits) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except UnreadableVideo:
        raise
    except FileNotFoundError as error:
        raise UnreadableVideo(path, "missing") from error
    except Exception as error:  # NumPy, zip and zlib have a dozen ways to fail on a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise UnreadableVideo(path, "cannot be read", error.strerror) from error
        if isinstance(error, ValueError) and re.search("object array|python objects", str(error), re.IGNORECASE):
            raise UnreadableVideo(
                path, "not an array of numbers, but of Python objects", "save each video as an array of uint8"
            ) from error
        raise UnreadableVideo(path, "not an array, or damaged") from error
    if array.dtype != np.uint8:
        raise UnreadableVideo(path, "array is not uint8", f"{array.dtype}: {_as_uint8(array.dtype)}")
    if (problem := _other_shape(array.shape)) is not None:
        reason, way_out = problem
        raise UnreadableVideo(path, reason, f"shape {array.shape}{way_out}")
    array = array if array.ndim == 4 else array[..., None]
    check_length(path, array.shape[0], limits)
    check_frame(path, array.shape[1], array.shape[2], limits)
    return np.asarray(array)


def _as_uint8(dtype: np.dtype[np.generic]) -> str:
    """The way to save an array of another type as uint8, from the type alone; values could only suggest it."""
    if dtype == np.bool_:
        return "save 255 * array.astype('uint8')"
    if dtype.kind == "f":
        return "save (255 * array).round().astype('uint8') if it lies in [0, 1]"
    if dtype.kind in "iu":
        return "save array.astype('uint8') if it lies in 0 to 255"
    return "save frames as numbers of 0 to 255"


def _other_shape(shape: tuple[int, ...]) -> tuple[str, str] | None:
    """The reason why a shape is not that of one video, and the remedy; None if it is one."""
    if 0 in shape:
        return "array is not a video, but empty", ""
    match shape:
        case (_, _):
            return "array is not a video, but one picture", ""
        case (_, _, channels) if channels <= MOST_CHANNELS:
            return "array is not a video, but like one picture (H, W, C)", ""
        case (3, _, _):  # or three grey frames
            return "array is not surely a video, but like one picture (C, H, W)", "; save grey frames as (T, H, W, 1)"
        case (_, _, _):
            return None
        case (_, _, _, channels) if channels in CHANNELS:
            return None
        case (_, _, _, 4):
            return "array is not of 1 or 3 channels", "; save array[..., :3]"
        case (_, channels, _, _) if channels in CHANNELS:
            return "array is not channels-last", "; save array.transpose(0, 2, 3, 1)"
        case (channels, _, _, _) if channels in CHANNELS:
            return "array is not channels-last", "; save array.transpose(1, 2, 3, 0)"
        case (_, _, _, _, _):
            return "array is not one video, but several", "; save each one alone"
    return "array is not (T, H, W), (T, H, W, 1) or (T, H, W, 3)", ""


def _member(path: Path, loaded: np.lib.npyio.NpzFile, limits: VideoLimits) -> NDArray[np.uint8]:
    """The video in an .npz file, unpacked whole: the only array, or the one with a name of `VIDEO_NAMES`."""
    with loaded:
        assert loaded.zip is not None
        check_bytes(path, max(unpacked_sizes(loaded.zip), default=0), limits)
        names = loaded.files
        chosen = names if len(names) == 1 else [name for name in VIDEO_NAMES if name in names]
        if len(chosen) != 1:
            what = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "none"
            raise UnreadableVideo(
                path, "not one array", f"it holds {what}; save the video alone, or under the name {VIDEO_NAMES[0]}"
            )
        return np.asarray(loaded[chosen[0]])
