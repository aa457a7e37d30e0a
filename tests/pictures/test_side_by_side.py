"""Videos side by side: every frame is where it belongs, under its label and the bar of its kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_checks import places

from trivd.pictures.draw import GAP, GIVEN, PAPER, PREDICTED
from trivd.pictures.side_by_side import BETWEEN, side_by_side, tile_grid, tiled
from trivd.runtime.pixels import Pixels

LONG = "a name of a model that is far longer than any column is wide"


def videos(count: int, channels: int = 3, size: int = 32) -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (5, size, size, channels), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("width", "scale"), [(32, 1), (33, 2), (128, 4)])
def test_every_column_shows_its_video(channels: int, width: int, scale: int) -> None:
    shown = videos(3, channels)
    columns = [(f"{label}\nz = 0", video) for label, video in zip(("truth", "a", LONG), shown, strict=True)]
    picture = side_by_side("clip 7", columns, 2, width)
    frames, height, wide, _ = picture.shape
    assert (frames, wide) == (5, 3 * (32 * scale + GAP) - GAP)
    assert height % 2 == wide % 2 == 0
    top = height - 32 * scale
    for t in range(5):
        for number, video in enumerate(shown):
            frame = np.broadcast_to(video[t], (32, 32, 3))
            assert places(picture[t], frame, scale) == [(top, number * (32 * scale + GAP))]
        bar = picture[t, top - GAP - 1]
        assert (bar == (GIVEN if t < 2 else PREDICTED)).all()
    assert not np.array_equal(picture[2, :top], picture[3, :top])  # the numbers of the frames


def test_labels_stay_above_their_columns() -> None:
    columns = [(LONG, video) for video in videos(2, size=128)]
    picture = side_by_side("clip 7", columns, 2, 128)[0]
    header = picture[: picture.shape[0] - 128 - 2 * GAP]  # without the bar
    written = (header != PAPER).any(axis=(0, 2))
    assert written[:128].any()
    assert written[128 + GAP :].any()
    assert not written[128 : 128 + GAP].any()


@given(st.integers(1, 60), st.integers(50, 300), st.integers(50, 900))
def test_tiles_fill_a_grid_that_is_narrow_enough(count: int, height: int, width: int) -> None:
    rows, columns = tile_grid(count, (height, width), 1920)
    assert (rows - 1) * columns < count <= rows * columns
    assert columns * (width + BETWEEN) <= 1920 or columns == 1


def test_every_tile_is_shown() -> None:
    tiles = videos(5)
    sheet = tiled(tiles, 1920)
    assert sheet.shape == (5, 2 * 32 + BETWEEN, 3 * 32 + 2 * BETWEEN, 3)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, 3)
        assert places(sheet[4], tile[4], 1) == [(row * (32 + BETWEEN), column * (32 + BETWEEN))]
