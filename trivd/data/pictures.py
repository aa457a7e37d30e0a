"""Videos that are folders of numbered images, or NumPy arrays."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from trivd.config import VideoLimits
from trivd.data.containers import exceeds_decoder, limit_decoder, open_options
from trivd.data.frames import (
    Frame,
    FrameConverter,
    OverLimit,
    UnreadableVideo,
    VideoInfo,
    check_bytes,
    check_frame,
    check_length,
    quarter_turns,
)
from trivd.files import unpacked_sizes

FORMATS = "png_pipe,apng,jpeg_pipe,bmp_pipe,webp_pipe,tiff_pipe,ppm_pipe,pgm_pipe"  # FFmpeg's names of the following
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def numbered_images(folder: Path) -> list[Path]:
    """The images in `folder` whose names hold a number, in natural order: 2 before 10."""
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and re.search(r"\d", path.stem) and not path.name.startswith(".")
    ]
    return sorted(images, key=lambda path: _natural(path.name))


def probe_images(folder: Path, limits: VideoLimits) -> VideoInfo:
    """Count the images and open the first.

    Raises:
        UnreadableVideo: there is none, there are too many, or the first is damaged or too large.
    """
    images = numbered_images(folder)
    if not images:
        raise UnreadableVideo(folder, "empty", "it holds no numbered images")
    check_length(folder, len(images), limits)
    frame = _open_image(images[0], limits)
    height, width = (frame.width, frame.height) if quarter_turns(frame) % 2 else (frame.height, frame.width)
    return VideoInfo(len(images), height, width)


def image_frames(
    folder: Path, start: int, stride: int, convert: FrameConverter, limits: VideoLimits
) -> Iterator[Frame]:
    """Images start, start + stride, ... to the last.

    Raises:
        UnreadableVideo: one is damaged or too large, or differs in size from the first read.
    """
    size: tuple[int, int] | None = None
    for path in numbered_images(folder)[start::stride]:
        frame = _open_image(path, limits)
        size = size or (frame.height, frame.width)
        if (frame.height, frame.width) != size:
            raise UnreadableVideo(folder, "images of different sizes", path.name)
        yield convert(frame)


def probe_array(path: Path, limits: VideoLimits) -> VideoInfo:
    """Check the array of a .npy or .npz file.

    Raises:
        UnreadableVideo: no array, not one of uint8 frames, or one beyond the limits.
    """
    count, height, width, _ = _open_array(path, limits).shape
    return VideoInfo(count, height, width)


def array_frames(path: Path, start: int, stride: int, convert: FrameConverter, limits: VideoLimits) -> Iterator[Frame]:
    """Frames start, start + stride, ... to the last."""
    return map(convert.array, _open_array(path, limits)[start::stride])


def _natural(name: str) -> list[str | int]:
    """A sort key in which runs of digits count as numbers: text, number, text, ..."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _open_image(path: Path, limits: VideoLimits) -> av.VideoFrame:
    is_open = False
    try:
        if path.exists() and not path.is_file():
            raise UnreadableVideo(path, "not a file")
        check_bytes(path, path.stat().st_size, limits)
        options = open_options(limits) | {"format_whitelist": FORMATS}
        # The bytes without a name, by which FFmpeg would take a JPEG for a pattern of numbered files.
        content = io.BytesIO(path.read_bytes())
        with av.open(content, "r", options=options, metadata_errors="ignore") as container:
            is_open = True
            limit_decoder(path, container.streams.video[0], limits)
            frame = next(container.decode(video=0))
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        if is_open and isinstance(error, av.error.FFmpegError) and exceeds_decoder(error):
            raise OverLimit(path.parent, "damaged image, or over limits.max_frame_pixels", path.name) from error
        raise UnreadableVideo(path.parent, "damaged image", path.name) from error
    check_frame(path, frame.height, frame.width, limits)
    return frame


def _open_array(path: Path, limits: VideoLimits) -> NDArray[np.uint8]:
    """(T, H, W, C) with 1 or 3 channels; a .npy file stays on disk, its frames are read as they are used."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        array = _first_member(path, loaded, limits) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except UnreadableVideo:
        raise
    except Exception as error:  # NumPy, zip and zlib have a dozen ways to fail on a damaged file
        raise UnreadableVideo(path, "not an array, or damaged") from error
    if array.dtype != np.uint8:
        raise UnreadableVideo(path, "array is not uint8", str(array.dtype))
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
        raise UnreadableVideo(path, "array is not (T, H, W), (T, H, W, 1) or (T, H, W, 3)", f"shape {array.shape}")
    check_length(path, array.shape[0], limits)
    check_frame(path, array.shape[1], array.shape[2], limits)
    return np.asarray(array)


def _first_member(path: Path, loaded: np.lib.npyio.NpzFile, limits: VideoLimits) -> NDArray[np.uint8]:
    """The first array of an .npz file, which is unpacked whole."""
    with loaded:
        assert loaded.zip is not None
        check_bytes(path, max(unpacked_sizes(loaded.zip)), limits)
        return np.asarray(loaded[loaded.files[0]])
