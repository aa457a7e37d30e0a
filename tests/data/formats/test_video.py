"""Video files: frame-exact reading from any frame on, whatever the time stamps, and cut or damaged files."""

import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_encodings import Encoding, Unencodable, draw, encode, wrong_frames
from video_files import numbered_frames, write_video

from trivd.config import DEFAULT_LIMITS
from trivd.data.datasets.folder import find_videos
from trivd.data.formats import index_cache
from trivd.data.formats.containers import opened
from trivd.data.formats.decode import UnreadableVideo, VideoFile, probe, read_frames
from trivd.data.formats.frame_index import checksum, frames_from
from trivd.data.formats.frame_scan import promised_seconds
from trivd.data.formats.frames import FrameConverter
from trivd.data.formats.index_cache import frame_index
from trivd.data.listing import ListingSource

COUNT = 40


def encoding(codec: str, suffix: str, **changes: Any) -> Encoding:
    values: dict[str, Any] = {"gop": 8, "b_frames": 2, "frames": 30, "seed": 0}
    values |= dict.fromkeys(("is_closed", "is_variable", "is_fragmented", "is_interlaced", "is_packed"), False)
    return Encoding(codec, suffix, **(values | changes))


def read(path: Path, start: int = 0, count: int = 1) -> NDArray[np.uint8]:
    return read_frames(path, start, count, 1, short_side=None, channels=3)


MISLEADING = {  # their packets' time stamps do not tell the frames
    "packed.avi": encoding("mpeg4", ".avi", is_packed=True, b_frames=1),
    "packed.mkv": encoding("mpeg4", ".mkv", is_packed=True, b_frames=1),
    "b_frames.avi": encoding("libx264", ".avi", b_frames=1),
    "program.mpg": encoding("mpeg2video", ".mpg", is_interlaced=True),
    "program1.mpg": encoding("mpeg1video", ".mpg"),
    "mpeg2.mkv": encoding("mpeg2video", ".mkv"),
    "mpeg2.mp4": encoding("mpeg2video", ".mp4", is_fragmented=True),
    "elementary.h264": encoding("libx264", ".h264"),
    "bottom_up.avi": encoding("amv", ".avi"),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_frames_are_told_by_their_content_where_time_stamps_mislead(tmp_path: Path, name: str) -> None:
    encode(tmp_path / name, MISLEADING[name])
    assert wrong_frames(tmp_path / name) == []
    assert frame_index(tmp_path / name, DEFAULT_LIMITS).by_content


def test_a_file_of_any_encoding_is_entered_exactly(tmp_path: Path) -> None:
    """A few of those that `make fuzz` draws."""
    rng, tried = random.Random(3), 0
    while tried < 6:
        drawn = replace(draw(rng), frames=15)
        path = tmp_path / f"{tried}{drawn.suffix}"
        try:
            encode(path, drawn)
            assert wrong_frames(path) == [], drawn
        except (Unencodable, UnreadableVideo):  # FFmpeg writes some files that it cannot read
            continue
        tried += 1


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_reading_begins_at_the_keyframe_before(tmp_path: Path, name: str) -> None:
    encode(tmp_path / name, encoding("libx264" if name != "a.avi" else "mpeg4", name[1:], gop=5, b_frames=0))
    index = frame_index(tmp_path / name, DEFAULT_LIMITS)
    entry_point = index.entry_point(22)
    assert entry_point is not None
    assert 17 < entry_point.number <= 22
    with opened(tmp_path / name, DEFAULT_LIMITS) as video:
        number, frame = next(frames_from(video, index, entry_point))
        assert number == entry_point.number
        assert index.mark(frame) == index.marks[number]


def test_an_entry_that_turns_out_inexact_is_not_used(tmp_path: Path) -> None:
    encode(tmp_path / "a.mkv", encoding("libx264", ".mkv", is_closed=True))
    whole = read(tmp_path / "a.mkv", 0, 30)
    index = frame_index(tmp_path / "a.mkv", DEFAULT_LIMITS)
    index.marks[20] += 1  # as of a file whose time stamps are not those of its frames
    assert np.array_equal(read(tmp_path / "a.mkv", 18, 8), whole[18:26])
    index = frame_index(tmp_path / "a.mkv", DEFAULT_LIMITS)
    assert index.by_content
    before = len(index.entry_points)
    index.marks[20] += 1
    assert np.array_equal(read(tmp_path / "a.mkv", 18, 8), whole[18:26])
    assert len(index.entry_points) < before


def test_a_file_without_an_exact_way_in_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.avi", encoding("mpeg4", ".avi"))
    nothing: Iterator[Any] = iter(())
    monkeypatch.setattr(index_cache, "frames_from", lambda *_: nothing)
    assert not probe(tmp_path / "a.avi").seekable
    assert wrong_frames(tmp_path / "a.avi") == []
    said = ListingSource(find_videos(tmp_path, 0.1), "train", 32, 3, 2).summary
    assert any("1 video that cannot be entered at keyframes: read from the beginning" in line for line in said)


def test_a_checksum_is_of_pixels_alone(tmp_path: Path) -> None:
    """Rows are padded in memory with whatever was there before."""
    frames = numbered_frames(2, 50, 70)
    for layout in ("yuv420p", "rgb24", "gray", "nv12", "yuv422p10le", "yuyv422", "gbrp", "yuva420p"):
        frame, other = (av.VideoFrame.from_ndarray(array, "rgb24").reformat(format=layout) for array in frames)
        before = checksum(frame)
        for plane in frame.planes:
            line = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            used = {"rgb24": 210, "yuv422p10le": 2 * plane.width, "yuyv422": 140, "nv12": 70}.get(layout, plane.width)
            line[:, used:] ^= 255
        assert checksum(frame) == before, layout
        assert checksum(other) != before, layout


def test_indexes_of_files_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "CACHED_FRAMES", 60)
    paths = [write_video(tmp_path / f"{n}.mp4", numbered_frames(25)) for n in range(3)]
    first, second, third = (frame_index(path, DEFAULT_LIMITS) for path in paths)
    assert frame_index(paths[1], DEFAULT_LIMITS) is second
    assert frame_index(paths[2], DEFAULT_LIMITS) is third
    assert frame_index(paths[0], DEFAULT_LIMITS) is not first
    write_video(paths[2], numbered_frames(10))
    assert frame_index(paths[2], DEFAULT_LIMITS).frames == 10


def test_dropped_frames_of_an_avi_file_are_not_missing(tmp_path: Path) -> None:
    """Its index has an empty chunk for each; the frames that there are are shown for longer."""
    times = sorted(random.Random(0).sample(range(60), 33))
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for time, array in zip(times, numbered_frames(33), strict=True):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 50  # what the header counts
    assert probe(path).frames == 33
    assert wrong_frames(path) == []


def hidden(path: Path, first: int) -> Path:
    """A copy of an MP4 file whose edit list begins at frame `first`, as a cut without encoding leaves it."""
    out = path.with_name(f"from-{first}{path.suffix}")
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.time_base is not None:
                shift = round(Fraction(first, 25) / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) - shift, packet.dts - shift
                packet.stream = stream
                target.mux(packet)
    return out


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("first", [3, 11, 20])
def test_frames_that_an_edit_list_hides_are_not_read(tmp_path: Path, suffix: str, first: int) -> None:
    path = write_video(tmp_path / f"a{suffix}", numbered_frames(COUNT), options={"g": "12", "bf": "2"})
    whole, cut = read(path, 0, COUNT), hidden(path, first)
    assert probe(cut).frames == COUNT - first
    assert np.array_equal(read(cut, 0, COUNT - first), whole[first:])
    assert wrong_frames(cut) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_pictures_that_begin_late_are_not_truncated(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    late = [600 + 4 * number for number in range(COUNT)]  # hundredths of a second
    path = write_video(tmp_path / f"a{suffix}", numbered_frames(COUNT), codec=codec, times=late)
    assert probe(path).frames == COUNT
    assert wrong_frames(path) == []


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".ts"), ("mpeg2video", ".mpg")])
def test_joined_recordings_are_read_whole(tmp_path: Path, codec: str, suffix: str) -> None:
    parts = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for seed, part in enumerate(parts):
        encode(part, encoding(codec, suffix, seed=seed, is_closed=True))
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert np.array_equal(read(joined, 0, 60), np.concatenate([read(part, 0, 30) for part in parts]))
    assert wrong_frames(joined) == []


@pytest.mark.parametrize(("codec", "is_closed"), [("libx264", True), ("libx264", False), ("libx265", False)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_parts_that_were_cut_and_joined_without_encoding(
    tmp_path: Path, codec: str, is_closed: bool, suffix: str
) -> None:
    """Each begins at a keyframe, and is shown from a moment at which the one before is not quite over."""
    source, joined = tmp_path / f"a{suffix}", tmp_path / f"joined{suffix}"
    encode(source, encoding(codec, suffix, is_closed=is_closed, frames=40))
    with av.open(str(joined), "w") as target, av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        stream = target.add_stream_from_template(container.streams.video[0])
        tick = round(Fraction(1, 25) / (packets[0].time_base or 1))
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        runs = [packets[keys[1] : keys[2] + 3], packets[keys[2] : keys[3] + 3], packets[keys[1] : keys[2]]]
        time = 0
        for run in runs:
            shift = time * tick - (run[0].dts or 0)
            for number, packet in enumerate(run):
                new = av.Packet(bytes(packet))
                new.stream, new.time_base, new.is_keyframe = stream, packet.time_base, packet.is_keyframe
                new.pts, new.dts = (packet.pts or 0) + shift + number % 2, (packet.dts or 0) + shift
                target.mux(new)
            time += len(run)
    index_cache._cache = index_cache._Cache()
    assert wrong_frames(joined) == []


def test_the_size_of_a_video_is_that_of_its_first_frame(tmp_path: Path) -> None:
    small, large = (write_video(tmp_path / f"{n}.ts", numbered_frames(10, n, 64), "mpeg2video") for n in (48, 96))
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    whole = read_frames(tmp_path / "both.ts", 0, probe(tmp_path / "both.ts").frames, 1, short_side=24, channels=3)
    assert whole.shape[1:] == (24, 32, 3)
    assert len(whole) > 17
    assert np.array_equal(read_frames(tmp_path / "both.ts", 14, 3, 1, short_side=24, channels=3), whole[14:17])


@pytest.mark.parametrize("share", [0.97, 0.98, 0.985, 0.99, 0.995])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_what_is_left_of_a_file_without_its_very_end_is_read(tmp_path: Path, suffix: str, share: float) -> None:
    moving = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
    path = write_video(tmp_path / f"a{suffix}", numbered_frames(COUNT, 96, 128), muxer_options=moving)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    try:
        info = probe(path)
    except UnreadableVideo as error:
        assert error.reason == "truncated"  # noqa: PT017
    else:
        assert read(path, 0, info.frames).shape[0] == info.frames
        assert np.array_equal(read(path, info.frames - 1), read(path, 0, info.frames)[-1:])


def test_damage_that_looks_like_one_more_stream_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def demux(*_: object) -> Iterator[object]:
        raise IndexError
        yield

    with opened(write_video(tmp_path / "a.mp4", numbered_frames(3)), DEFAULT_LIMITS) as video:
        monkeypatch.setattr(video, "container", SimpleNamespace(demux=demux))
        with pytest.raises(UnreadableVideo, match="damaged"):
            next(video.packets())


def test_a_recording_that_begins_within_a_group_of_frames_is_counted_right(tmp_path: Path) -> None:
    encode(tmp_path / "a.ts", encoding("libx264", ".ts"))
    packets = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "late.ts").write_bytes(packets[188 * 40 :])
    assert 0 < probe(tmp_path / "late.ts").frames < 30
    assert wrong_frames(tmp_path / "late.ts") == []


@pytest.mark.parametrize(
    ("suffix", "share"), [(".avi", 0.7), (".mkv", 0.6), (".mp4", 0.8), (".wmv", 0.6), (".flv", 0.7)]
)
def test_a_truncated_file_says_after_how_many_frames_it_ends(tmp_path: Path, suffix: str, share: float) -> None:
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    codec = {".wmv": "wmv2", ".flv": "flv"}.get(suffix)
    path = write_video(tmp_path / f"a{suffix}", numbered_frames(COUNT, 96, 128), codec, muxer_options=options)
    assert probe(path).frames == COUNT
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UnreadableVideo, match=r"truncated \(it ends after frame (\d+), at \d+% of it\)"):
        probe(path)


@pytest.mark.parametrize("tag", ["9" * 5_000 + ":00:00", "00:00:0." + "9" * 5_000, "1:2"])
def test_durations_that_are_none_are_ignored(tmp_path: Path, tag: str) -> None:
    path = write_video(tmp_path / "a.mkv", numbered_frames(10))
    with opened(path, DEFAULT_LIMITS) as video:
        video.stream.metadata["DURATION"] = tag
        assert promised_seconds(video) < 1


def test_one_converter_takes_frames_of_many_sizes(tmp_path: Path) -> None:
    convert = FrameConverter(16, 3)
    for height, width in ((48, 64), (64, 48), (30, 30)):
        frame = av.VideoFrame.from_ndarray(numbered_frames(1, height, width)[0], "rgb24")
        assert convert(frame).shape == (16, 21, 3)


def test_names_need_not_be_text(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", numbered_frames(5)).rename(tmp_path / "\udcff\udcfe.avi")
    assert probe(path).frames == 5
    assert len(list(VideoFile(path).frames(2, 1, FrameConverter(16, 1)))) == 3
