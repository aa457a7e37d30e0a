"""Numbered images: one sequence is read in its order, several are never interleaved."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trivd.data.formats.decode import UnreadableVideo, probe, read_frames
from trivd.data.formats.sequences import in_sequence

FOLDER = Path("frames")

ONE = {
    "a count": [f"{n}.png" for n in range(12)],
    "by fives": [f"frame_{n:04}.png" for n in range(0, 60, 5)],
    "one image": ["shot7.png"],
    "wider than its zeros": [f"GOPR{n}.JPG" for n in range(9998, 10003)],
    "spelt with and without capitals": ["IMG_1.png", "img_2.PNG", "IMG_3.png"],
    "a size in each name": [f"{n:03}_640x480.png" for n in range(5)],
    "two formats, no number twice": ["000.jpg", "001.jpg", "002.png", "003.png"],
    "a date before the count": [f"2024-01-01_{n:04}.png" for n in range(1, 100)],
    "a date before a count by fifties": [f"2024-01-01_{n:04}.png" for n in range(0, 300, 50)],
    "times": [f"2024-01-01_{hour}-{minute:02}-00.png" for hour in (11, 12) for minute in range(0, 60, 5)],
    "times as one number": [f"radar_20240101{hour}{minute:02}.png" for hour in (11, 12) for minute in range(0, 60, 5)],
    "days over the end of a month": ["2024-01-30.png", "2024-01-31.png", "2024-02-01.png", "2024-02-02.png"],
    "a count that looks like dates": [f"{n:08}.png" for n in range(20240125, 20240140)],
    "milliseconds of a clock": [f"{1_700_000_000_000 + 33 * n + n % 2}.jpg" for n in range(20)],
    "decimal seconds": [f"{(1_305_031_102_000_000 + 33_300 * n + n % 3) / 1e6:.6f}.png" for n in range(90)],
    "a count beside its time": [f"frame_{n:04}_t{n / 25:.3f}.png" for n in range(60)],
}
SEVERAL = {
    "colour and depth": (
        [f"{n:03}_{kind}.png" for n in range(4) for kind in ("rgb", "depth")],
        "*_depth.png, *_rgb.png",
    ),
    "two cameras": ([f"cam{c}_{n:03}.png" for n in range(4) for c in "AB"], "camA_*.png, camB_*.png"),
    "cameras by number": ([f"cam{c}_{n:03}.png" for n in range(4) for c in (1, 2)], "cam1_*.png, cam2_*.png"),
    "cameras after the step": ([f"s{n}_c{c}.png" for n in range(4) for c in (1, 2)], "s*_c1.png, s*_c2.png"),
    "left and right": ([f"{n:03}{side}.png" for n in range(4) for side in "LR"], "*L.png, *R.png"),
    "masks": ([f"{n:03}{kind}.png" for n in range(4) for kind in ("", "_mask")], "*.png, *_mask.png"),
    "two formats": ([f"{n:03}.{suffix}" for n in range(4) for suffix in ("jpg", "png")], "*.jpg, *.png"),
    "videos joined by a count": ([f"v{1 + n // 5}_{n}.png" for n in range(10)], "v1_*.png, v2_*.png"),
    "counts of two days": ([f"01-0{d}_{n}.png" for d in (1, 2) for n in range(4)], "01-01_*.png, 01-02_*.png"),
    "no sequence": (["cat1.png", "dog2.png", "me3.png", "zoo4.png"], "cat1.png, dog2.png, me3.png, ..."),
}
NOT_EVEN = {
    "a second part": ([f"{n:03}.png" for n in (*range(5), *range(10, 15))], "between 004.png and 010.png"),
    "a missing image": ([f"{n}.png" for n in range(30) if n != 7], "between 6.png and 8.png"),
    "a number in two spellings": (["1.png", "01.png", "2.png"], "01.png and 1.png"),
}


@pytest.mark.parametrize("names", ONE.values(), ids=ONE)
def test_one_sequence(names: list[str]) -> None:
    assert in_sequence(FOLDER, names[::-1]) == names


@given(first=st.integers(0, 500), step=st.integers(1, 9), count=st.integers(1, 40), digits=st.integers(1, 5))
def test_any_even_count(first: int, step: int, count: int, digits: int) -> None:
    names = [f"f{number:0{digits}}.png" for number in range(first, first + step * count, step)]
    assert in_sequence(FOLDER, sorted(names)) == names


@pytest.mark.parametrize(("names", "patterns"), SEVERAL.values(), ids=SEVERAL)
def test_several_sequences_are_named(names: list[str], patterns: str) -> None:
    with pytest.raises(UnreadableVideo, match=re.escape(f"several sequences in one folder ({patterns}; give each")):
        in_sequence(FOLDER, names)


@pytest.mark.parametrize(("names", "said"), NOT_EVEN.values(), ids=NOT_EVEN)
def test_what_does_not_count_evenly_is_named(names: list[str], said: str) -> None:
    with pytest.raises(UnreadableVideo, match=re.escape(said)):
        in_sequence(FOLDER, names)


def write_images(folder: Path, names: list[str]) -> None:
    """Images in order, each brighter than the one before."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(np.full((32, 32, 3), 20 * number, np.uint8)).save(folder / name)


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_images(tmp_path / "a", ["0.png", "5.jpg", "10.png"])
    assert probe(tmp_path / "a").frames == 3
    frames = read_frames(tmp_path / "a", 0, 3, 1, short_side=None, channels=3)
    assert frames[:, 0, 0, 0].tolist() == [0, 20, 40]
    write_images(tmp_path / "b", ["0.png", "1.png", "0_depth.png", "1_depth.png"])
    with pytest.raises(UnreadableVideo, match="several sequences"):
        probe(tmp_path / "b")
    with pytest.raises(UnreadableVideo, match="several sequences"):
        read_frames(tmp_path / "b", 0, 1, 1, short_side=None, channels=3)
