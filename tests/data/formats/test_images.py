"""Images as people have them: those that are not read rightly are refused, with the reason."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trivd.data.formats.decode import UnreadableVideo, probe, read_frames

SIZE = 32
COLOURS = np.zeros((SIZE, SIZE, 3), np.uint8)
COLOURS[: SIZE // 2, :, 0] = 200
COLOURS[:, SIZE // 2 :, 1] = 100
COLOURS[..., 2] = 7 * np.arange(SIZE)
GREY = COLOURS[..., 2]


def encoded(array: NDArray[Any], kind: str, mode: str | None = None, **options: Any) -> bytes:
    """A file of one image, by Pillow."""
    image = Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def see(folder: Path, suffix: str, content: bytes) -> NDArray[np.uint8]:
    """The frame read from a folder with that image alone."""
    (folder / f"0{suffix}").write_bytes(content)
    return read_frames(folder, 0, 1, 1, short_side=None, channels=3)[0]


RIGHT: dict[str, tuple[str, Callable[[], bytes], NDArray[np.uint8]]] = {
    "PNG": (".png", lambda: encoded(COLOURS, "PNG"), COLOURS),
    "palette": (".png", lambda: encoded(COLOURS, "PNG", "P", palette=Image.Palette.WEB), np.zeros(())),
    "alpha": (".png", lambda: encoded(np.dstack([COLOURS, GREY]), "PNG"), COLOURS),
    "16 bits": (".png", lambda: encoded(GREY.astype(np.uint16) * 257, "PNG"), GREY[..., None]),
    "TIFF of 16 bits": (".tif", lambda: encoded(GREY.astype(np.uint16) * 257, "TIFF"), GREY[..., None]),
    "TIFF of CMYK": (".tif", lambda: encoded(COLOURS, "TIFF", "CMYK"), COLOURS),
    "JPEG of CMYK": (".jpg", lambda: encoded(COLOURS, "JPEG", "CMYK", quality=98), COLOURS),
    "PNG named JPEG": (".jpg", lambda: encoded(COLOURS, "PNG"), COLOURS),
    "PPM of 16 bits": (".ppm", lambda: b"P6\n32 32\n65535\n" + (COLOURS.astype(">u2") * 257).tobytes(), COLOURS),
}
NOT_SUPPORTED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "float": (".tif", lambda: encoded(GREY.astype(np.float32), "TIFF"), "TIFF, mode F"),
    "32 bits": (".tif", lambda: encoded(GREY.astype(np.int32), "TIFF"), "TIFF, mode I"),
    "JPEG in TIFF": (".tif", lambda: encoded(COLOURS, "TIFF", compression="jpeg"), "compression jpeg"),
    "animation": (
        ".webp",
        lambda: encoded(COLOURS, "WEBP", save_all=True, append_images=[Image.fromarray(COLOURS[::-1])]),
        "an animation",
    ),
    "text": (".pgm", lambda: b"P2 2 2 255\n0 100 200 255\n", "numbers written as text"),
    "HEIF": (".jpg", lambda: b"\0\0\0\x18ftypheic" + bytes(1000), "HEIF"),
}


@pytest.mark.parametrize(("suffix", "content", "expected"), RIGHT.values(), ids=RIGHT)
def test_pixels_are_those_of_the_image(
    tmp_path: Path, suffix: str, content: Callable[[], bytes], expected: NDArray[np.uint8]
) -> None:
    if expected.ndim == 0:  # a palette changes the colours: Pillow's reading of it is the truth
        expected = np.asarray(Image.open(io.BytesIO(content())).convert("RGB"))
    seen = see(tmp_path, suffix, content())
    assert np.abs(seen.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("suffix", "content", "said"), NOT_SUPPORTED.values(), ids=NOT_SUPPORTED)
def test_kinds_that_cannot_be_read_are_named(
    tmp_path: Path, suffix: str, content: Callable[[], bytes], said: str
) -> None:
    with pytest.raises(UnreadableVideo, match=rf"of a kind that is not supported \(0{suffix}: .*{said}.*; save images"):
        see(tmp_path, suffix, content())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_images_are_damaged(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)
    content = encoded(noise, kind)
    suffix = {"JPEG": ".jpg", "TIFF": ".tif"}.get(kind, f".{kind.lower()}")
    assert see(tmp_path, suffix, content).shape == (SIZE, SIZE, 3)
    with pytest.raises(UnreadableVideo, match="damaged image"):
        see(tmp_path, suffix, content[: len(content) // 2])


def test_images_that_cannot_be_read_or_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    see(tmp_path, ".png", encoded(COLOURS, "PNG"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        with pytest.raises(UnreadableVideo, match=r"image cannot be read \(0\.png: Permission denied\)"):
            probe(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(
            "trivd.data.formats.images.numbered_images", lambda folder: [folder / "0.png", folder / "1.png"]
        )  # one just vanished
        with pytest.raises(UnreadableVideo, match=r"image is missing \(1\.png\)"):
            read_frames(tmp_path, 0, 2, 1, short_side=None, channels=3)
