"""Decoding: many formats, exact to the frame, upright, and a reason for each file that cannot be used."""

import contextlib
import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from video_files import LEVEL, numbered_frames, write_video

from trivd.data.formats.decode import UnreadableVideo, VideoFile, VideoInfo, probe, read_frames
from trivd.data.formats.frames import FrameConverter, resized
from trivd.data.formats.images import IMAGE_SUFFIXES

COUNT = 40
B_FRAMES = {"bf": "3", "g": "12"}
UNEVEN = np.cumsum(np.random.default_rng(0).integers(1, 9, COUNT)).tolist()
ENCODINGS = {
    "plain.mp4": {},
    "b_frames.mp4": {"options": B_FRAMES},
    "open_gop.mp4": {"options": B_FRAMES | {"x264-params": "open-gop=1"}},
    "open_gop.mkv": {"options": B_FRAMES | {"x264-params": "open-gop=1"}},
    "fragmented.mp4": {"options": B_FRAMES, "muxer_options": {"movflags": "frag_keyframe+empty_moov"}},
    "uneven.mp4": {"options": B_FRAMES, "times": UNEVEN},
    "uneven.mkv": {"options": B_FRAMES, "times": UNEVEN},
    "plain.mov": {"options": {"g": "10"}},
    "mpeg4.avi": {"options": {"bf": "2", "g": "10"}},
    "mjpeg.avi": {"codec": "mjpeg"},
    "b_frames.avi": {"codec": "libx264", "options": B_FRAMES},
    "vp9.webm": {"options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"}},
    "palette.gif": {},
}


def read(path: Path, start: int = 0, count: int = 1, stride: int = 1, channels: int = 3) -> np.ndarray:
    return read_frames(path, start, count, stride, short_side=None, channels=channels)


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_format_is_exact_to_the_frame(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, numbered_frames(COUNT), **ENCODINGS[name])
    assert probe(path) == VideoInfo(COUNT, 48, 64)
    whole = np.stack(list(VideoFile(path).frames(0, 1, FrameConverter(None, 3))))
    assert whole.shape == (COUNT, 48, 64, 3)
    brightness = whole[:, 24:, :, 1].mean(axis=(1, 2))
    tolerance = 25 if name.endswith("gif") else 3  # its palette has eight greens
    assert np.abs(brightness - (40 + LEVEL * np.arange(COUNT))).max() < tolerance
    assert whole[0, 4, 4, 0] > 200  # red, not blue
    assert whole[0, 4, 4, 2] < 60
    for start in range(1, COUNT):
        count = min(3, (COUNT - start + 1) // 2)
        assert np.array_equal(read(path, start, count, stride=2), whole[start : start + 2 * count : 2])


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_honoured(tmp_path: Path, rotation: int, turns: int) -> None:
    upright = write_video(tmp_path / "upright.mp4", numbered_frames(4))
    turned = write_video(tmp_path / "turned.mp4", numbered_frames(4), rotation=rotation)
    assert np.array_equal(read(turned, 0, 4), np.rot90(read(upright, 0, 4), turns, axes=(1, 2)))
    info = probe(turned)
    assert (info.height, info.width) == ((64, 48) if turns % 2 else (48, 64))


def test_black_and_white_in_grey(tmp_path: Path) -> None:
    for level in (0, 255):
        path = write_video(tmp_path / f"{level}.mp4", np.full((2, 32, 32, 3), level, np.uint8))
        for short_side in (None, 16):
            grey = read_frames(path, 0, 1, 1, short_side=short_side, channels=1)
            assert grey.shape[-1] == 1
            assert (grey == level).all()


def test_resizing_keeps_proportions_and_brightness(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(2, 96, 160))
    full = read(path)
    for short_side in (32, 64, 128):
        frame = read_frames(path, 0, 1, 1, short_side=short_side, channels=3)
        assert frame.shape == (1, short_side, round(160 * short_side / 96), 3)
        assert abs(frame.mean() - full.mean()) < 1.5


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), short_side=st.integers(1, 256))
def test_resized_short_side_is_exact(height: int, width: int, short_side: int) -> None:
    new_height, new_width = resized(height, width, short_side)
    assert min(new_height, new_width) == short_side
    assert abs(max(new_height, new_width) - max(height, width) * short_side / min(height, width)) <= 0.5


@pytest.mark.parametrize(
    ("name", "muxer_options"),
    [("a.mp4", {}), ("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.webm", {}), ("a.avi", {})],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_recognised(tmp_path: Path, name: str, muxer_options: dict[str, str], share: float) -> None:
    path = write_video(tmp_path / name, numbered_frames(COUNT), muxer_options=muxer_options)
    contents = path.read_bytes()
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(contents[: int(len(contents) * share)])
    with pytest.raises(UnreadableVideo, match="truncated"):
        probe(cut)


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n")
    (tmp_path / "note.txt").write_text("no video")
    reasons = {}
    for name in ("zero.mp4", "text.mp4", "playlist.mp4", "note.txt", "missing.mp4"):
        with pytest.raises(UnreadableVideo) as error:
            probe(tmp_path / name)
        reasons[name] = error.value.reason
        assert name in str(error.value)
    assert reasons == {
        "zero.mp4": "zero bytes",
        "text.mp4": "not a video, or truncated",
        "playlist.mp4": "not a video, or truncated",
        "note.txt": "not a video",
        "missing.mp4": "missing",
    }


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableVideo, match="no video stream"):
        probe(path)


def test_reading_beyond_the_end_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(10))
    with pytest.raises(UnreadableVideo, match="no frame 10"):
        read(path, 8, 3)
    with pytest.raises(UnreadableVideo, match="no frame 12"):
        read(path, 12, 1)


def test_odd_names(tmp_path: Path) -> None:
    for name in ("12:30 %d.mp4", "concat:a.mp4", "é ü.MP4"):
        path = write_video(tmp_path / "a.mp4", numbered_frames(3)).rename(tmp_path / name)
        assert probe(path).frames == 3
        assert read(path, 1, 2).shape == (2, 48, 64, 3)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [*((suffix, "L" if suffix == ".pgm" else "RGB") for suffix in sorted(IMAGE_SUFFIXES)), (".jpg", "CMYK")],
)
def test_every_kind_of_image_is_read_as_pillow_reads_it(tmp_path: Path, suffix: str, mode: str) -> None:
    noise = np.random.default_rng(0).integers(256, size=(480, 640, 3), dtype=np.uint8)
    smooth = np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None].repeat(480, 0).repeat(3, 2)
    for number, frame in enumerate((noise, smooth)):
        image = Image.fromarray(frame).convert(mode)
        lossless = {"lossless": True} if suffix == ".webp" else {}
        image.save(tmp_path / f"50%d_{number}{suffix}", **lossless)
    assert probe(tmp_path) == VideoInfo(2, 480, 640)
    found = read(tmp_path, 0, 2).astype(int)
    for number in range(2):
        expected = np.asarray(Image.open(tmp_path / f"50%d_{number}{suffix}").convert("RGB")).astype(int)
        # The colours of a JPEG have half its resolution, and may be brought to all of it in more than one way.
        assert np.abs(found[number] - expected).mean() < ((40, 3)[number] if suffix in (".jpg", ".jpeg") else 0.01)


def test_a_raw_stream_is_read(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.m4v", "w", format="m4v") as container:
        stream = container.add_stream("mpeg4", 10, width=64, height=48, pix_fmt="yuv420p")
        for frame in numbered_frames(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    assert read(tmp_path / "a.m4v", 0, 3).shape == (3, 48, 64, 3)


def test_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    frames = numbered_frames(12)
    for number, array in enumerate(frames):
        av.VideoFrame.from_ndarray(array, "rgb24").to_image().save(tmp_path / f"frame_{number}.png")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "times.csv").touch()
    assert probe(tmp_path) == VideoInfo(12, 48, 64)
    assert np.array_equal(read(tmp_path, 1, 4, 3), frames[[1, 4, 7, 10]])
    (tmp_path / "frame_3.png").write_bytes(b"damaged")
    with pytest.raises(UnreadableVideo, match=r"damaged image \(frame_3.png\)"):
        read(tmp_path, 0, 12)
    av.VideoFrame.from_ndarray(frames[0, :20].copy(), "rgb24").to_image().save(tmp_path / "frame_3.png")
    with pytest.raises(UnreadableVideo, match="different sizes"):
        read(tmp_path, 0, 12)


@given(
    shape=st.sampled_from([(6, 9, 14), (6, 9, 14, 1), (6, 9, 14, 3)]),
    start=st.integers(0, 5),
    stride=st.integers(1, 3),
    packed=st.booleans(),
)
@settings(max_examples=15)
def test_arrays(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], start: int, stride: int, packed: bool
) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("arrays") / ("video.npz" if packed else "video.npy")
    if packed:
        np.savez(path, array)
    else:
        np.save(path, array)
    assert probe(path) == VideoInfo(6, 9, 14)
    count = len(range(start, 6, stride))
    channels = shape[3] if len(shape) == 4 else 1
    taken = read_frames(path, start, count, stride, short_side=None, channels=channels)
    assert np.array_equal(taken, array.reshape(6, 9, 14, channels)[start::stride])
    other = read_frames(path, start, count, stride, short_side=4, channels=4 - channels)
    assert other.shape == (count, 4, 6, 4 - channels)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm", "a.gif", "a.npy", "a.npz"])
def test_damaged_bytes_give_frames_or_a_reason(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, numbered_frames(20))
    elif name.endswith("npz"):
        np.savez_compressed(path, numbered_frames(20))
    else:
        write_video(path, numbered_frames(20))
    contents = path.read_bytes()
    rng = np.random.default_rng(0)
    for changes in (1, 3, 10, 30) * 10:
        damaged = np.frombuffer(contents, np.uint8).copy()
        places = rng.integers(min(len(damaged), rng.choice([64, 600, len(damaged)])), size=changes)
        damaged[places] = rng.integers(256, size=changes)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(UnreadableVideo):
            assert probe(path).frames > 0
            assert read_frames(path, 3, 4, 2, short_side=16, channels=3).shape[0] == 4


def test_arrays_that_are_no_videos(tmp_path: Path) -> None:
    cases = {
        "float.npy": (np.zeros((4, 8, 8, 3)), "uint8"),
        "flat.npy": (np.zeros((8, 8), np.uint8), "array is not"),
        "deep.npy": (np.zeros((4, 8, 8, 5), np.uint8), "array is not"),
        "empty.npy": (np.zeros((0, 8, 8, 3), np.uint8), "array is not"),
        "objects.npy": (np.array([{}], dtype=object), "not an array"),
    }
    for name, (array, reason) in cases.items():
        np.save(tmp_path / name, array, allow_pickle=True)
        with pytest.raises(UnreadableVideo, match=reason):
            probe(tmp_path / name)
    for name in ("broken.npz", "broken.npy"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
        with pytest.raises(UnreadableVideo, match="not an array"):
            probe(tmp_path / name)


def test_closing_early_is_no_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(10))
    frames = VideoFile(path).frames(0, 1, FrameConverter(16, 1))
    assert len(list(itertools.islice(frames, 2))) == 2
