"""Videos read at another rate: the frame nearest in time, from the time stamps of any file."""

import itertools
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rated_videos import nearest, nearest_of_constant, numbers, write_at
from video_files import numbered_frames, write_video

from trivd.config import DataConfig, VideoLimits
from trivd.data.formats import video as video_reader
from trivd.data.formats.decode import VideoFile, VideoInfo, first_frames, read_frames
from trivd.data.formats.frame_times import FrameTimes, exact_rate, frame_times
from trivd.data.formats.frames import FrameConverter, OverLimit, UnreadableVideo
from trivd.runtime.errors import TrivdError

B_FRAMES = {"g": "10", "bf": "3"}
MISSING = (-1 << 63) + 1  # as absurd as a time stamp can be; -1 << 63 is FFmpeg's word for none


def read(path: Path, fps: float, start: int = 0, count: int | None = None, stride: int = 1) -> NDArray[np.uint8]:
    video = VideoFile(path, fps=fps)
    count = video.probe().frames if count is None else count
    return first_frames(video, start, count, stride, short_side=None, channels=3)


@given(
    first=st.integers(MISSING, 1 << 62) | st.integers(-100, 100),
    steps=st.lists(st.integers(1, 60), max_size=12),
    last=st.integers(1, 90),
    unit=st.sampled_from(
        [Fraction(1, 100), Fraction(1, 24), Fraction(1001, 30_000), Fraction(1, 90_000), Fraction(1, 7)]
    ),
    rate=st.sampled_from([Fraction(25), Fraction(25, 2), Fraction(50), Fraction(2997, 100), Fraction(1)]),
    start=st.integers(0, 99),
    stride=st.integers(1, 99),
)
@settings(max_examples=200)
def test_each_frame_is_the_nearest_in_time(
    first: int, steps: list[int], last: int, unit: Fraction, rate: Fraction, start: int, stride: int
) -> None:
    stamps = list(itertools.accumulate(steps, initial=first))
    times = frame_times(stamps, last, unit, None)
    assert times is not None
    assert exact_rate(float(rate)) == rate
    expected = nearest([stamp * unit for stamp in stamps], (stamps[-1] + last) * unit, rate, start, stride)
    assert list(times.nearest(float(rate), start, stride)) == expected


def test_of_two_that_are_equally_near_the_earlier_is_taken() -> None:
    times = frame_times(list(range(6)), 1, Fraction(2, 25), None)  # 12.5 frames a second
    assert times is not None
    assert list(times.nearest(25, 0, 1)) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@given(stamps=st.permutations(range(12)), shift=st.integers(0, 40))
def test_a_few_frames_out_of_order_are_put_in_order(stamps: list[int], shift: int) -> None:
    times = frame_times([stamp + shift for stamp in stamps], 1, Fraction(1, 25), Fraction(50))
    assert times is not None
    assert not times.evenly
    assert times.stamps.tolist() == list(range(shift, shift + 12))


@pytest.mark.parametrize(
    "stamps",
    [
        [0, None, 2, 3],
        [None] * 4,
        [0, 1, 1, 2],
        [5, 5, 5, 5],
        [*range(100, 140), *range(40)],  # recordings that were joined
        [*range(40), *range(40)],
    ],
)
def test_time_stamps_that_cannot_be_right_are_not_used(stamps: list[int | None]) -> None:
    times = frame_times(stamps, 7, Fraction(1, 1000), Fraction(50))
    assert times is not None
    assert times.evenly
    assert times.rate == 50
    assert list(times.nearest(25, 0, 1)) == list(range(0, len(stamps), 2))
    assert frame_times(stamps, 7, Fraction(1, 1000), None) is None
    assert frame_times([0, 1], 1, None, None) is None


def test_a_last_frame_of_unknown_length_is_as_long_as_most() -> None:
    for stamps in ([0, 40, 80, 120, 1000], [MISSING, MISSING + 40, MISSING + 80, MISSING + 120, (1 << 63) - 1]):
        times = frame_times(stamps, 0, Fraction(1, 1000), None)
        assert times is not None
        assert times.last == 40
    alone = frame_times([7], 0, Fraction(1, 1000), Fraction(25))
    assert alone is not None
    assert alone.duration == Fraction(40, 1000)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov", ".ts", ".mpg"])
@pytest.mark.parametrize(
    ("rate", "count"), [(Fraction(30), 50), (Fraction(30_000, 1001), 50), (Fraction(50), 29), (Fraction(24), 28)]
)
def test_constant_rates(tmp_path: Path, suffix: str, rate: Fraction, count: int) -> None:
    codec = "mpeg2video" if suffix == ".mpg" else None
    path = write_at(tmp_path / f"a{suffix}", count, rate, codec, **B_FRAMES)
    expected = nearest_of_constant(count, rate, Fraction(25))
    own = read_frames(path, 0, count, 1, short_side=None, channels=3)
    whole = read(path, 25)
    assert np.array_equal(whole, own[expected])
    info = VideoFile(path, fps=25).probe()
    assert (info.frames, info.evenly) == (len(expected), False)
    assert info.rate == pytest.approx(float(rate), rel=1e-3)
    for start, stride in ((3, 1), (11, 2), (len(expected) - 1, 1)):
        wanted = whole[start::stride][:4]
        assert np.array_equal(read(path, 25, start, len(wanted), stride), wanted)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_half_the_rate_repeats_each_frame(tmp_path: Path, suffix: str) -> None:
    path = write_at(tmp_path / f"a{suffix}", 10, Fraction(25, 2), **B_FRAMES)
    assert numbers(read(path, 25)) == [n // 2 for n in range(20)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi", "a.ts"])
def test_the_own_rate_gives_the_own_frames(tmp_path: Path, name: str) -> None:
    path = write_at(tmp_path / name, 30, Fraction(25), **B_FRAMES)
    whole = read_frames(path, 0, 30, 1, short_side=None, channels=3)
    assert np.array_equal(read(path, 25), whole)
    assert np.array_equal(read(path, 25, 11, 5, 3), whole[11:26:3])


@given(seed=st.integers(0, 2**32 - 1), fps=st.sampled_from([5, 12.5, 25, 29.97, 60]), late=st.integers(0, 500))
@settings(max_examples=8)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif"])
def test_variable_rates(tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, fps: float, late: int) -> None:
    """Times in hundredths of a second, B-frames, and pictures that begin late."""
    is_gif = name.endswith("gif")  # it begins at once, and shorter delays than 2/100 s are not kept
    steps = np.random.default_rng(seed).integers(2 if is_gif else 1, 20, 19)
    times = np.cumsum([0 if is_gif else late, *steps]).tolist()
    path = write_video(
        tmp_path_factory.mktemp("variable") / name, numbered_frames(20), times=times, options={} if is_gif else B_FRAMES
    )
    found = video_reader.times(path, VideoLimits())
    stamps = [(int(stamp) - int(found.stamps[0])) * found.unit for stamp in found.stamps]
    assert stamps == [Fraction(time - times[0], 100) for time in times]
    expected = nearest(stamps, found.duration, exact_rate(fps))
    whole = read_frames(path, 0, 20, 1, short_side=None, channels=3)
    assert np.array_equal(read(path, fps), whole[expected])
    start = len(expected) // 2
    assert np.array_equal(read(path, fps, start, 1), whole[expected[start : start + 1]])


def test_the_delays_of_an_animation_are_its_times(tmp_path: Path) -> None:
    frames = [Image.fromarray(frame) for frame in numbered_frames(4)]
    delays = [100, 300, 200, 400]  # milliseconds
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=delays)
    own = read_frames(tmp_path / "a.gif", 0, 4, 1, short_side=None, channels=3)
    assert np.array_equal(read(tmp_path / "a.gif", 10), own[[0, 1, 1, 2, 2, 2, 3, 3, 3, 3]])


@pytest.mark.parametrize("first", [5, 12])
def test_time_begins_where_an_edit_list_does(tmp_path: Path, first: int) -> None:
    path = write_at(tmp_path / "a.mp4", 40, Fraction(30), **B_FRAMES)
    cut = tmp_path / "cut.mp4"
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.time_base is not None:
                shift = round(Fraction(first, 30) / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) - shift, packet.dts - shift
                packet.stream = stream
                target.mux(packet)
    count = 40 - first
    expected = [first + n for n in nearest_of_constant(count, Fraction(30), Fraction(25))]
    assert numbers(read(cut, 25)) == expected


def test_a_stream_without_time_stamps_has_the_rate_of_its_header(tmp_path: Path) -> None:
    path = write_at(tmp_path / "a.h264", 30, Fraction(50), **B_FRAMES)
    info = VideoFile(path, fps=25).probe()
    assert (info.frames, info.rate, info.evenly) == (15, 50, True)
    assert numbers(read(path, 25)) == list(range(0, 30, 2))


def test_no_more_is_decoded_than_the_frames_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_at(tmp_path / "a.mp4", 60, Fraction(30), g="10", bf="0", sc_threshold="0")
    VideoFile(path, fps=25).probe()
    decoded = 0
    convert = FrameConverter.__call__
    decode = video_reader.frames_from

    def counting(*arguments: object) -> object:
        nonlocal decoded
        for one in decode(*arguments):  # type: ignore[arg-type]
            decoded += 1
            yield one

    converted = 0

    def converting(*arguments: object) -> object:
        nonlocal converted
        converted += 1
        return convert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(video_reader, "frames_from", counting)
    monkeypatch.setattr(FrameConverter, "__call__", converting)
    assert numbers(read(path, 25, 27, 5)) == [32, 34, 35, 36, 37]
    assert decoded == 38 - 30  # from the keyframe before
    assert converted == 5


def test_what_has_no_times_is_read_as_it_is(tmp_path: Path) -> None:
    frames = numbered_frames(6)
    np.save(tmp_path / "a.npy", frames)
    (tmp_path / "images").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "images" / f"{number}.png")
    for name in ("a.npy", "images"):
        assert VideoFile(tmp_path / name, fps=12.5).probe() == VideoInfo(6, 48, 64)
        assert np.array_equal(read(tmp_path / name, 12.5), frames)


def test_times_of_years_are_one_sentence(tmp_path: Path) -> None:
    times = [0, 4, 8, 100 * 86_400 * 365]
    path = write_video(tmp_path / "a.mkv", numbered_frames(4), times=times)
    assert VideoFile(path).probe().frames == 4
    with pytest.raises(OverLimit, match=r"limits\.max_video_frames \(its time stamps span 31,536,000 s\)"):
        VideoFile(path, fps=25).probe()
    with pytest.raises(OverLimit, match="time stamps span 2 s"):
        VideoFile(write_at(tmp_path / "a.mp4", 60, Fraction(30)), VideoLimits(max_video_frames=60), 50).probe()


def test_neither_times_nor_a_rate_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_at(tmp_path / "a.mp4", 4, Fraction(25))
    monkeypatch.setattr(video_reader.frame_index(path, VideoLimits()), "times", None)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4 cannot be used as a video: no time stamps and no frame rate"):
        VideoFile(path, fps=25).probe()
    assert VideoFile(path).probe().frames == 4


def test_the_start_of_absurd_times_is_found_without_overflow() -> None:
    times = FrameTimes(np.array([MISSING, 0, (1 << 63) - 2]), Fraction(1), (1 << 63) - 1)
    assert next(times.nearest(25, 0, 1)) == 0
    assert next(times.nearest(1, (1 << 62) - 1, 1)) == 0
    assert next(times.nearest(1, 1 << 62, 1)) == 1
    assert list(times.nearest(1, times.count(1) - 1, 1)) == [2]


@pytest.mark.parametrize("fps", [0, -25, 0.001, 2000, math.inf, math.nan])
def test_rates_that_are_none_are_refused(fps: float) -> None:
    with pytest.raises(TrivdError, match=r"data\.fps is .*between 0\.01 and 1000, or be None"):
        DataConfig(fps=fps)
