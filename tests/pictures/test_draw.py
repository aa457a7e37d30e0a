"""Pictures: where things stand in a grid, what files hold when read back, and the flow colours' known values."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from trivd.pictures import draw
from trivd.pictures.draw import (
    GIVEN,
    PREDICTED,
    Pixels,
    color_wheel_legend,
    encode_gif,
    encode_mp4,
    encode_png,
    flow_arrows,
    flow_to_color,
    sample_grid,
    save_gif,
    save_mp4,
    save_png,
)
from trivd.runtime.files import write_atomically


def video(frames: int = 6, height: int = 16, width: int = 24, channels: int = 3) -> Pixels:
    """A bright square that moves over a gradient; every frame is different."""
    picture = np.zeros((frames, height, width, channels), dtype=np.uint8)
    picture[:] = np.linspace(40, 120, width, dtype=np.uint8)[:, None]
    for t in range(frames):
        picture[t, 4:12, 2 * t : 2 * t + 8] = 230
    return picture


def read(data: bytes) -> tuple[Pixels, float]:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return np.stack(frames), float(stream.average_rate)


def where(picture: Pixels, content: Pixels) -> list[tuple[int, int]]:
    """Every (row, column) at which `content` stands in `picture`."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, content.shape)[..., 0, :, :, :]
    return [(int(y), int(x)) for y, x in np.argwhere((windows == content).all(axis=(2, 3, 4)))]


def test_grid_shows_every_frame_in_order_below_its_bar() -> None:
    clip = video()
    picture = sample_grid([("truth", clip), ("grey", clip[..., :1] // 2)], conditioning=2, scale=1)
    for row, frames in enumerate((clip, clip // 2)):
        places = [where(picture, frame) for frame in frames]
        assert all(len(place) == 1 for place in places)
        tops, lefts = zip(*(place[0] for place in places), strict=True)
        assert len(set(tops)) == 1
        assert list(np.diff(lefts)) == [28] * 5  # 24 pixels and a gap
        if row == 0:
            bars = [tuple(picture[tops[0] - draw.GAP - 1, left].tolist()) for left in lefts]
            assert bars == [GIVEN] * 2 + [PREDICTED] * 4


def test_grid_subsamples_around_the_last_given_frame() -> None:
    clip = video(frames=9)
    picture = sample_grid([("truth", clip)], conditioning=4, scale=2, every=3)
    shown = [t for t in range(9) if where(picture, draw.enlarge(clip[t], 2))]
    assert shown == [0, 3, 6]


def test_wide_grids_are_wrapped_with_their_rows_together() -> None:
    def plain(red: int) -> Pixels:
        """Frames of one colour each."""
        return np.stack([np.full((16, 24, 3), (red, 100, 5 * t), dtype=np.uint8) for t in range(40)])

    def place(red: int, t: int) -> tuple[int, int]:
        y, x = np.argwhere((picture == (red, 100, 5 * t)).all(axis=2))[0].tolist()
        return y, x

    picture = sample_grid([("a", plain(10)), ("b", plain(200))], conditioning=5, scale=4)
    assert picture.shape[1] <= draw.GRID_WIDTH
    for t in (0, 39):
        (above, left), (below, same) = place(10, t), place(200, t)
        assert (below - above, same) == (4 * 16 + draw.GAP, left)
    assert place(10, 39)[0] > place(200, 0)[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_exact(channels: int, tmp_path: Path) -> None:
    frame = video(channels=channels)[0]
    save_png(tmp_path / "new" / "frame.png", frame)
    with Image.open(tmp_path / "new" / "frame.png") as image:
        read_back = np.asarray(image)
    np.testing.assert_array_equal(read_back, np.broadcast_to(frame, read_back.shape))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["frame.png"]
    assert (tmp_path / "new" / "frame.png").read_bytes() == encode_png(frame)


def test_gif_repeats_at_its_rate_and_keeps_colours(tmp_path: Path) -> None:
    clip = video()
    save_gif(tmp_path / "clip.gif", clip, fps=8, scale=2)
    with Image.open(tmp_path / "clip.gif") as image:
        assert (image.info["loop"], image.info["duration"], image.size) == (0, 120, (48, 32))
    frames, _ = read(encode_gif(clip, fps=8))
    assert frames.shape == clip.shape
    assert np.abs(frames.astype(int) - clip).max() <= 1


def test_frames_that_repeat_are_kept_in_a_gif() -> None:
    clip = np.zeros((6, 16, 16, 3), np.uint8)
    clip[3:] = 200
    frames, _ = read(encode_gif(clip, fps=8))
    assert np.array_equal(frames, clip)


def test_what_stands_still_does_not_flicker_in_a_gif() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    clip = np.stack([noise] * 5)
    clip[:, 4:8, 4:8] = np.arange(0, 250, 50, dtype=np.uint8)[:, None, None, None]
    frames, _ = read(encode_gif(clip, fps=5))
    assert (frames[:, 10:] == frames[:1, 10:]).all()


@pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
def test_mp4_is_read_back_enlarged(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if encoder == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    clip = video(height=15, width=23)  # 18 times larger: 270 x 414
    save_mp4(tmp_path / "clip.mp4", clip, fps=12.5)
    frames, rate = read((tmp_path / "clip.mp4").read_bytes())
    expected = draw.enlarge(clip, 18)
    assert frames.shape == expected.shape
    assert rate == 12.5
    assert np.abs(frames.astype(int) - expected).mean() < 4


def test_mp4_of_odd_sizes_repeats_the_border() -> None:
    frames, _ = read(encode_mp4(video(height=257, width=301), fps=10))
    assert frames.shape[1:3] == (258, 302)


def test_flow_colours_are_middleburys() -> None:
    flow = torch.zeros(2, 1, 5)
    flow[0, 0, :] = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0])
    white, right, left, half, beyond = flow_to_color(flow, max_flow=1.0)[0].tolist()
    assert white == [255, 255, 255]
    assert right == [255, 0, 0]
    assert left == pytest.approx([0, 209, 255], abs=1)  # two steps of eleven from cyan to blue
    assert half == [255, 127, 127]
    assert beyond == [191, 0, 0]


def test_the_longest_vector_is_fully_saturated() -> None:
    flow = torch.zeros(3, 2, 4, 4)
    assert (flow_to_color(flow) == 255).all()
    flow[1, 0, 2, 2] = 7.0
    colors = flow_to_color(flow)
    assert colors.shape == (3, 4, 4, 3)
    assert colors[1, 2, 2].tolist() == [255, 0, 0]


def test_legend_is_the_flow_from_its_centre() -> None:
    legend = color_wheel_legend(65)
    assert legend[32, 32].tolist() == [255, 255, 255]
    assert legend[32, 64].tolist() == [255, 0, 0]
    assert legend[0, 0].tolist() == [255, 255, 255]  # outside the disk


def test_arrows_start_where_content_came_from() -> None:
    frame = np.full((16, 16, 1), 90, dtype=np.uint8)
    flow = torch.zeros(2, 16, 16)
    np.testing.assert_array_equal(flow_arrows(frame, flow, every=16, scale=4), np.full((64, 64, 3), 90))
    flow[0] = -6.0  # content came from 24 px further left and is now at the centre, (32, 32)
    picture = flow_arrows(frame, flow, every=16, scale=4)
    changed = np.argwhere((picture != 90).any(axis=2))
    assert changed[:, 1].min() == pytest.approx(32 - 24, abs=4)
    assert changed[:, 1].max() == pytest.approx(32, abs=4)
    spread = [np.ptp(changed[changed[:, 1] // 8 == third][:, 0]) for third in (1, 3)]
    assert spread[1] > spread[0]  # the point is on the right


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
