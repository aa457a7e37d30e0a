"""Videos that claim or hold more than `VideoLimits` allow are refused before they cost memory or time."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from cost_checks import cheaply
from record_files import write_bair
from video_files import numbered_frames, write_video

from trivd.config import DEFAULT_LIMITS, DataConfig, VideoLimits
from trivd.data.datasets import layouts
from trivd.data.formats.decode import UnreadableVideo, VideoFile, probe, read_frames
from trivd.data.formats.frames import FrameConverter, OverLimit
from trivd.data.formats.tfrecord import find_records, parse_example
from trivd.data.listing import ListingSource
from trivd.evaluation.predictions.subject import PredictionFiles


def gif(width: int, height: int, images: int = 1) -> bytes:
    """A GIF of that canvas, each of its images two pixels in a corner."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    image = (
        b"\x21\xf9\x04\x00\x04\x00\x00\x00"
        + b"\x2c"
        + struct.pack("<HHHHB", 0, 0, 2, 2, 0)
        + b"\x02\x03\x84\x05\x05\x00"
    )
    return screen + image * images + b"\x3b"


def deflated_zeros(size: int) -> bytes:
    """A zlib stream (RFC 1950) of so many zero bytes: a piece is deflated once, and repeated."""
    piece = 1 << 20
    packer = zlib.compressobj(wbits=-15)
    repeated = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    end = packer.compress(bytes(size % piece)) + packer.flush()
    checksum = struct.pack(">HH", size % 65_521, 1)  # Adler-32
    return b"\x78\x9c" + repeated * (size // piece) + end + checksum


def test_repeated_pieces_are_a_zlib_stream() -> None:
    for size in (0, 1, 3_000_000):
        assert zlib.decompress(deflated_zeros(size)) == bytes(size)


def png(width: int, height: int) -> bytes:
    """A black PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = deflated_zeros((3 * width + 1) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def mp4_claiming(samples: int, kind: bytes = b"stsz") -> bytes:
    """An MP4 file without media, whose table says that there are so many samples of one size."""
    full = bytes(4)  # version and flags
    tables = {
        b"stsz": box(b"stsz", full + struct.pack(">II", 16, samples)),
        b"stz2": box(b"stz2", full + struct.pack(">II", 8, samples)),
        b"trun": box(b"trun", full + struct.pack(">I", samples)),
        b"cmov": box(b"cmov", bytes(16)),
    }
    stbl = box(
        b"stbl",
        box(b"stsd", full + struct.pack(">I", 1) + box(b"avc1", bytes(78)))
        + box(b"stts", full + struct.pack(">III", 1, samples, 1))
        + box(b"stsc", full + struct.pack(">IIII", 1, 1, samples, 1))
        + box(b"stco", full + struct.pack(">II", 1, 0))
        + tables[kind],
    )
    handler = box(b"hdlr", full + bytes(4) + b"vide" + bytes(13))
    header = box(b"mdhd", full + bytes(8) + struct.pack(">II", 1000, samples) + bytes(4))
    track = box(b"trak", box(b"tkhd", bytes(84)) + box(b"mdia", header + handler + box(b"minf", stbl)))
    return box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", box(b"mvhd", bytes(100)) + 3 * track)


@pytest.mark.parametrize("kind", [b"stsz", b"stz2", b"trun", b"cmov"])
@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_tables_of_vast_numbers_of_samples_are_refused(tmp_path: Path, kind: bytes, suffix: str) -> None:
    """FFmpeg takes the content's word for what a file is, and makes an index of all samples when it opens one."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(mp4_claiming(50_000_000, kind))
    with cheaply(), pytest.raises(OverLimit, match="packed header" if kind == b"cmov" else "claims too many samples"):
        probe(path)


@pytest.mark.parametrize("name", ["a.npy", "a.mp4", "a.tfrecords", "images/0.png"])
def test_pipes_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    read = {"a.tfrecords": lambda: list(find_records(path)), "images/0.png": lambda: probe(path.parent)}
    with cheaply(), pytest.raises(UnreadableVideo, match="not a file"):
        read.get(name, lambda: probe(path))()


def test_records_of_countless_fields_are_refused() -> None:
    def message(number: int, content: bytes) -> bytes:
        length = len(content)
        varint = b""
        while length > 0x7F:
            varint, length = varint + bytes([length & 0x7F | 0x80]), length >> 7
        return bytes([number << 3 | 2]) + varint + bytes([length]) + content

    values = message(1, b"\x0a\x00" * 2_000_000)  # empty texts
    example = message(1, message(1, message(1, b"name") + message(2, values)))
    with cheaply(), pytest.raises(UnreadableVideo, match="more than 100,000 fields"):
        parse_example(example, Path("a.tfrecords"))


@pytest.mark.parametrize("side", [15_000, 30_000])
def test_vast_frames_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.gif").write_bytes(gif(side, side))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(png(side, side)[: 1 << 20])
    with cheaply(), pytest.raises(OverLimit, match=r"max_frame_pixels"):
        probe(tmp_path / "a.gif")
    # Above 2^28 or so pixels FFmpeg takes the header itself for damaged.
    with cheaply(), pytest.raises(UnreadableVideo, match="max_frame_pixels" if side < 20_000 else "damaged image"):
        probe(tmp_path / "images")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm", "a.gif", "a.npy", "a.npz"])
def test_the_limit_on_pixels_holds_in_every_format(tmp_path: Path, name: str) -> None:
    frames, path = numbered_frames(3), tmp_path / name
    if name.endswith("npy"):
        np.save(path, frames)
    elif name.endswith("npz"):
        np.savez(path, frames)
    else:
        write_video(path, frames)
    pixels = frames.shape[1] * frames.shape[2]
    assert probe(path, VideoLimits(max_frame_pixels=pixels)).frames == 3
    with pytest.raises(UnreadableVideo, match=rf"{name}.*limits\.max_frame_pixels"):
        probe(path, VideoLimits(max_frame_pixels=pixels - 1))


def test_the_limit_on_pixels_holds_for_images(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(64, 48))
    assert probe(tmp_path, VideoLimits(max_frame_pixels=64 * 48)).width == 64
    with pytest.raises(UnreadableVideo, match=r"0\.png .*limits\.max_frame_pixels"):
        probe(tmp_path, VideoLimits(max_frame_pixels=64 * 48 - 1))


def test_a_size_that_grows_on_the_way_is_refused(tmp_path: Path) -> None:
    small, large = (write_video(tmp_path / f"{n}.ts", numbered_frames(5, n, n), "mpeg2video") for n in (64, 512))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    frames = VideoFile(both, VideoLimits(max_frame_pixels=100 * 100)).frames(0, 1, FrameConverter(None, 3))
    with pytest.raises(UnreadableVideo, match=r"limits\.max_frame_pixels"):
        list(frames)


@pytest.mark.parametrize("shape", [(2, 4, 200, 3), (2, 200, 4, 1)])
def test_long_and_narrow_frames_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    assert probe(tmp_path / "a.npy", VideoLimits(max_aspect_ratio=50)).frames == 2
    with pytest.raises(OverLimit, match=r"limits\.max_aspect_ratio \(.*200.*pixels, 32 : 1 allowed\)"):
        probe(tmp_path / "a.npy")


def test_videos_without_an_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(gif(16, 16, images=100_000))
    np.save(tmp_path / "a.npy", np.zeros((1001, 8, 8), np.uint8))
    limits = VideoLimits(max_video_frames=1000)
    for name in ("a.gif", "a.npy"):
        with cheaply(), pytest.raises(OverLimit, match=r"limits\.max_video_frames \(more than 1,000 frames\)"):
            probe(tmp_path / name, limits)
    with cheaply(), pytest.raises(OverLimit, match=r"max_video_frames"):
        read_frames(tmp_path / "a.gif", 500, 600, 1, short_side=16, channels=3, limits=limits)
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes(png(8, 8))
    with pytest.raises(OverLimit, match="max_video_frames"):
        probe(tmp_path / "images", replace(limits, max_video_frames=2))


def npy_header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_bombs_are_refused(tmp_path: Path, packing: int) -> None:
    shape = (300, 1000, 1000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive, archive.open("x.npy", "w") as member:
        member.write(npy_header(shape))
        for _ in range(60):
            member.write(bytes(1_000_000))
    limits = VideoLimits(max_video_bytes=30_000_000)
    with cheaply(30 << 20), pytest.raises(UnreadableVideo, match=r"max_video_bytes|not an array"):
        probe(tmp_path / "a.npz", limits)


def test_an_archive_that_says_less_than_it_holds_gives_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_header((3000, 32, 32)) + bytes(3000 * 32 * 32))
    content = path.read_bytes()
    size = struct.pack("<I", len(npy_header((3000, 32, 32))) + 3000 * 32 * 32)
    assert content.count(size) == 2  # in the entry and in the directory
    path.write_bytes(content.replace(size, struct.pack("<I", 1000)))
    with pytest.raises(UnreadableVideo, match="not an array, or damaged"):
        probe(path)


@pytest.mark.parametrize("shape", [(10**9, 1000, 1000, 3), (2**62, 2, 2), (-1, 4, 4), (10**30, 1, 1)])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_headers_of_arrays_that_lie_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    content = npy_header(shape) + bytes(100)
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with cheaply(), pytest.raises(UnreadableVideo, match=name):
        probe(tmp_path / name)


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def test_arrays_of_objects_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    array = np.array([Attack(marker)], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", array, allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Attack(marker)))
    for name in ("a.npy", "a.npz", "b.npy"):
        with pytest.raises(UnreadableVideo, match="not an array"):
            probe(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile other.mp4\n", "#EXTM3U\n#EXTINF:9,\nother.mp4\n"])
def test_playlists_lead_to_no_other_file(tmp_path: Path, text: str) -> None:
    write_video(tmp_path / "other.mp4", numbered_frames(3))
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4"):
        probe(tmp_path / "a.mp4")


def test_records_of_robots_are_limited(tmp_path: Path) -> None:
    root = write_bair(tmp_path, {"train/traj_0_to_1.tfrecords": [0, 1]})
    with pytest.raises(Exception, match=r"Skipped: 2 over limits\.max_video_bytes"):
        ListingSource(layouts.find(root, DataConfig(limits=VideoLimits(max_video_bytes=1000))), "train", 64, 3, 2)


def test_what_is_over_a_limit_is_skipped_and_reported(action_folder: Path) -> None:
    data = DataConfig(limits=replace(DEFAULT_LIMITS, max_video_frames=22))
    source = ListingSource(layouts.find(action_folder, data), "train", 32, 3, 8)
    assert max(source.lengths) <= 22
    assert any("over limits.max_video_frames (more than 22 frames)" in line for line in source.summary)


def test_predictions_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    for side in ("truth", "predictions"):
        write_video(tmp_path / side / "a.mp4", numbered_frames(5))
    PredictionFiles(tmp_path / "predictions", tmp_path / "truth", 2, VideoLimits(max_video_bytes=5 * 48 * 64 * 3))
    with pytest.raises(OverLimit, match=r"a\.mp4 .*limits\.max_video_bytes"):
        PredictionFiles(tmp_path / "predictions", tmp_path / "truth", 2, VideoLimits(max_video_bytes=10_000))


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(OverLimit(Path("a.mp4"), "over limits.max_video_frames", "detail")))
    assert str(error).endswith("(detail); remove it, or raise that limit if you trust it.")


def test_formats_that_are_read_are_ffmpegs() -> None:
    from trivd.data.formats import containers
    from trivd.data.formats import images as pictures

    names = {name for format in av.formats_available for name in av.ContainerFormat(format).name.split(",")}
    assert set(containers.FORMATS.split(",")) | set(pictures.FORMATS.split(",")) <= names
