"""Videos that are folders of numbered images, or NumPy arrays."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import av
from PIL import ExifTags, Image

from trivd.config import VideoLimits
from trivd.data.formats.arrays import open_array
from trivd.data.formats.containers import exceeds_decoder, limit_decoder, open_options
from trivd.data.formats.frames import (
    AS_STORED,
    Frame,
    FrameConverter,
    Geometry,
    OverLimit,
    UnreadableVideo,
    VideoInfo,
    check_bytes,
    check_frame,
    check_length,
)
from trivd.data.formats.sequences import in_sequence

FORMATS = "png_pipe,apng,jpeg_pipe,bmp_pipe,webp_pipe,tiff_pipe,ppm_pipe,pgm_pipe"  # FFmpeg's names of the formats
ORIENTATIONS = {
    2: Geometry(flipped_x=True),
    3: Geometry(flipped_x=True, flipped_y=True),
    4: Geometry(flipped_y=True),
    5: Geometry(transposed=True),
    6: Geometry(transposed=True, flipped_x=True),
    7: Geometry(transposed=True, flipped_x=True, flipped_y=True),
    8: Geometry(transposed=True, flipped_y=True),
}  # by EXIF's numbers
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
STRICT = {"err_detect": "explode"}  # else FFmpeg fills in the missing end of an image; of a TIFF it never does


def is_numbered_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix, with a number in its name, and not hidden."""
    is_image = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    return is_image and re.search("[0-9]", path.stem) is not None


def numbered_images(folder: Path) -> list[Path]:
    """The images in `folder` whose names hold a number, in any order."""
    return [path for path in folder.iterdir() if is_numbered_image(path)]


def probe_images(folder: Path, limits: VideoLimits) -> VideoInfo:
    """Count the images and open the first.

    Raises:
        UnreadableVideo: there is none, there are too many, they are not one sequence, or the first is damaged or too
            large.
    """
    images = _sequence(folder)
    check_length(folder, len(images), limits)
    frame, geometry = _open_image(images[0], limits)
    return VideoInfo(len(images), *geometry.shown(frame.height, frame.width))


def image_frames(
    folder: Path, start: int, stride: int, convert: FrameConverter, limits: VideoLimits
) -> Iterator[Frame]:
    """Images start, start + stride, ... to the last.

    Raises:
        UnreadableVideo: the images are not one sequence, or one is damaged, too large, or differs in size from the
            first one read.
    """
    size: tuple[int, int] | None = None
    for path in _sequence(folder)[start::stride]:
        frame, geometry = _open_image(path, limits)
        shown = geometry.shown(frame.height, frame.width)
        size = size or shown
        if shown != size:
            raise UnreadableVideo(folder, "images of different sizes", path.name)
        yield convert(frame, geometry)


def probe_array(path: Path, limits: VideoLimits) -> VideoInfo:
    """Check the array of a .npy or .npz file.

    Raises:
        UnreadableVideo: the file holds no array of uint8 frames, or one beyond the limits.
    """
    count, height, width, _ = open_array(path, limits).shape
    return VideoInfo(count, height, width)


def array_frames(path: Path, start: int, stride: int, convert: FrameConverter, limits: VideoLimits) -> Iterator[Frame]:
    """Frames start, start + stride, ... to the last."""
    return map(convert.array, open_array(path, limits)[start::stride])


def _sequence(folder: Path) -> list[Path]:
    """The numbered images of a folder in their order.

    Raises:
        UnreadableVideo: there is none, they are not one sequence, or the folder cannot be read.
    """
    try:
        names = [path.name for path in numbered_images(folder)]
    except FileNotFoundError as error:
        raise UnreadableVideo(folder, "missing") from error
    except OSError as error:
        raise UnreadableVideo(folder, "cannot be read", error.strerror or "") from error
    if not names:
        raise UnreadableVideo(folder, "empty", "it holds no numbered images")
    return [folder / name for name in in_sequence(folder, names)]


def _open_image(path: Path, limits: VideoLimits) -> tuple[av.VideoFrame, Geometry]:
    """An image as stored, and its geometry as displayed."""
    is_open = False
    try:
        if path.exists() and not path.is_file():
            raise UnreadableVideo(path, "not a file")
        check_bytes(path, path.stat().st_size, limits)
        options = open_options(limits) | {"format_whitelist": FORMATS}
        # Bytes without a name, by which FFmpeg would take a JPEG for a pattern of numbered files.
        content = io.BytesIO(path.read_bytes())
        with av.open(content, "r", options=options, metadata_errors="ignore") as container:
            is_open = True
            stream = container.streams.video[0]
            limit_decoder(path, stream, limits)
            if stream.codec_context.name != "tiff":
                stream.codec_context.options |= STRICT
            elif kind := _unsupported_kind(content.getvalue()):  # it would be black
                raise _unsupported(path, kind)
            frame = next(container.decode(video=0))
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        if is_open and isinstance(error, av.error.FFmpegError) and exceeds_decoder(error):
            raise OverLimit(path.parent, "damaged image, or over limits.max_frame_pixels", path.name) from error
        if kind := _unsupported_kind(content.getvalue()):
            raise _unsupported(path, kind) from error
        raise UnreadableVideo(path.parent, "damaged image", path.name) from error
    except FileNotFoundError as error:
        raise UnreadableVideo(path.parent, "image is missing", path.name) from error
    except OSError as error:
        raise UnreadableVideo(path.parent, "image cannot be read", f"{path.name}: {error.strerror}") from error
    check_frame(path, frame.height, frame.width, limits)
    content.seek(0)
    return frame, _exif_geometry(content)


def _exif_geometry(content: io.BytesIO) -> Geometry:
    """The geometry of the orientation in an image's EXIF data, which FFmpeg does not give for all formats."""
    try:
        with Image.open(content, formats=("JPEG", "PNG", "WEBP", "TIFF")) as image:
            return ORIENTATIONS.get(image.getexif().get(ExifTags.Base.Orientation, 1), AS_STORED)
    except Exception:  # Pillow has many ways to fail on metadata, which viewers then ignore
        return AS_STORED


def _unsupported(path: Path, kind: str) -> UnreadableVideo:
    detail = f"{path.name}: {kind}; save images as PNG or JPEG of 8 bits a channel"
    return UnreadableVideo(path.parent, "images of a kind that is not supported", detail)


def _unsupported_kind(content: bytes) -> str | None:
    """The kind, by its first bytes, of an intact image that FFmpeg cannot decode; None if the image is damaged."""
    if content[:2] in (b"P1", b"P2", b"P3"):
        return "numbers written as text"
    if content[:4] == b"RIFF" and b"ANIM" in content[:64]:
        return "an animation"
    if content[4:8] == b"ftyp":
        return "MP4, HEIF or AVIF"
    if content[:2] not in (b"II", b"MM"):
        return None
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:  # reads only its tags
            packed = image.info.get("compression", "raw")
            return (
                None
                if image.mode in ("1", "L", "LA", "I;16", "I;16B", "P", "RGB", "RGBA", "CMYK") and packed != "jpeg"
                else (f"TIFF, mode {image.mode}, compression {packed}")
            )
    except Exception:  # Pillow has many ways to fail on damaged tags
        return None
