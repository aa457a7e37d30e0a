"""Frames are read as players display them: turned, mirrored, with square pixels, without the combs of interlacing."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from video_encodings import wrong_frames
from video_files import numbered_frames, write_video

from trivd.data.formats.decode import UnreadableVideo, VideoInfo, probe, read_frames


def read(path: Path, start: int = 0, count: int = 1) -> NDArray[np.uint8]:
    return read_frames(path, start, count, 1, short_side=None, channels=3)


# (a, b, c, d) of a display matrix, which shows the pixel at (x, y) at (a x + c y, b x + d y), and the same in NumPy.
SHOWN: dict[tuple[int, int, int, int], Any] = {
    (1, 0, 0, 1): lambda x: x,
    (-1, 0, 0, 1): lambda x: x[:, :, ::-1],
    (1, 0, 0, -1): lambda x: x[:, ::-1],
    (-1, 0, 0, -1): lambda x: x[:, ::-1, ::-1],
    (0, 1, 1, 0): lambda x: x.swapaxes(1, 2),
    (0, 1, -1, 0): lambda x: x.swapaxes(1, 2)[:, :, ::-1],
    (0, -1, 1, 0): lambda x: x.swapaxes(1, 2)[:, ::-1],
    (0, -1, -1, 0): lambda x: x.swapaxes(1, 2)[:, ::-1, ::-1],
}


@pytest.mark.parametrize("matrix", SHOWN)
def test_display_matrices_turn_and_mirror(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(4))
    stored, content = read(path, 0, 4), path.read_bytes()
    at = content.find(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    path.write_bytes(content[:at] + struct.pack(">6i", a, b, 0, c, d, 0) + content[at + 24 :])
    expected = SHOWN[matrix](stored)
    assert np.array_equal(read(path, 0, 4), expected)
    assert probe(path) == VideoInfo(4, *expected.shape[1:3])
    small = read_frames(path, 0, 4, 1, short_side=24, channels=3)
    assert small.shape == (4, *(side // 2 for side in expected.shape[1:3]), 3)
    assert np.abs(small.astype(int) - expected[:, ::2, ::2]).mean() < 12


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_turn_and_mirror(tmp_path: Path, suffix: str, orientation: int) -> None:
    image = Image.fromarray(numbered_frames(1, 32, 48)[0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"1{suffix}"
    image.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {"quality": 98}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    found = read(tmp_path)[0]
    assert found.shape == expected.shape == (*((48, 32) if orientation > 4 else (32, 48)), 3)
    assert np.abs(found - expected).mean() < (4 if suffix == ".jpg" else 0.01)
    assert probe(tmp_path) == VideoInfo(1, *expected.shape[:2])


def test_images_are_compared_as_they_are_shown(tmp_path: Path) -> None:
    """Some cameras store turned pictures upright, and some say how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = 8
    upright = numbered_frames(4, 48, 32)
    for number, frame in enumerate(upright):
        is_turned = number % 2 == 1
        stored = np.ascontiguousarray(np.rot90(frame, -1)) if is_turned else frame
        Image.fromarray(stored).save(tmp_path / f"{number}.png", **({"exif": exif} if is_turned else {}))
    assert np.array_equal(read(tmp_path, 0, 4), upright)
    Image.fromarray(upright[0]).save(tmp_path / "4.png", exif=exif)
    with pytest.raises(UnreadableVideo, match=r"images of different sizes \(4.png\)"):
        read(tmp_path, 0, 5)


@pytest.mark.parametrize(("aspect", "size"), [((4, 3), (48, 85)), ((1, 2), (96, 64)), ((1, 1), (48, 64))])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(
    tmp_path: Path, suffix: str, aspect: tuple[int, int], size: tuple[int, int]
) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for array in numbered_frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
        container.mux(stream.encode(None))
    assert probe(path) == VideoInfo(3, *size)
    frame = read(path)[0]
    assert frame.shape == (*size, 3)
    assert frame[size[0] // 6, size[1] // 8, 0] > 200  # the red corner is a third high and a quarter wide
    assert frame[size[0] // 6, size[1] // 8 * 3, 0] < 150


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("mpeg2video", ".mpg"), ("mpeg4", ".avi")])
def test_interlaced_frames_have_no_combs(tmp_path: Path, codec: str, suffix: str) -> None:
    """Even rows show a bar at one place, odd rows at the next one."""
    path, frames = tmp_path / f"a{suffix}", np.zeros((12, 96, 128, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[::2, 8 * number : 8 * number + 12] = 255
        frame[1::2, 8 * number + 16 : 8 * number + 28] = 255
    with av.open(str(path), "w") as container:
        options = {"flags": "+ildct+ilme", "qscale": "2", "x264-params": "tff=1"}
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for array in frames:
            frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    for short_side in (None, 96, 48, 32):
        grey = read_frames(path, 5, 1, 1, short_side=short_side, channels=1)[0, ..., 0].astype(int)
        assert np.abs(np.diff(grey, axis=0)).mean() < 6  # rows are alike, as those of the bar are
        scale = grey.shape[0] / 96
        assert grey[:, round(43 * scale) : round(49 * scale)].mean() > 180  # the upper field's bar
        assert grey[:, round(59 * scale) : round(65 * scale)].mean() < 60  # not the lower one's
    assert wrong_frames(path) == []
