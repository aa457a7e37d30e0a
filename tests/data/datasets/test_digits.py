"""Moving digits: the same for ever, split cleanly, and moving exactly as their flow says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trivd.data.datasets.digits import MovingDigits, _cubic, _periodic_weights
from trivd.data.splits import Split


def make(
    split: Split = "train", frames: int = 8, resolution: int = 32, channels: int = 3, digits: int = 2
) -> MovingDigits:
    return MovingDigits(
        split, frames=frames, stride=1, resolution=resolution, channels=channels, digits=digits, clips=100
    )


def warp_error(digits: MovingDigits, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean absolute error of frame t - 1 brought to frame t by the true flow, (T-1, H, W), and where it is visible."""
    clip = torch.from_numpy(digits.clip(index)).float().permute(0, 3, 1, 2)
    flow, visible = digits.flow(index)
    size = clip.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    positions = torch.stack([columns, rows]) + torch.from_numpy(flow)
    grid = ((positions + 0.5) * 2 / size - 1).permute(0, 2, 3, 1)
    warped = F.grid_sample(clip[:-1], grid, padding_mode="border", align_corners=False)
    return (warped - clip[1:]).abs().mean(dim=1).numpy(), visible


def test_a_clip_is_always_the_same_and_others_differ() -> None:
    assert np.array_equal(make().clip(3), make().clip(3))
    assert not np.array_equal(make().clip(3), make().clip(4))
    assert not np.array_equal(make().clip(3), make("validation").clip(3))
    other_seed = MovingDigits("train", frames=8, stride=1, resolution=32, channels=3, digits=2, clips=100, seed=1)
    assert not np.array_equal(make().clip(3), other_seed.clip(3))


@given(
    positions=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8), period=st.sampled_from([4, 7, 16, 32])
)
def test_weights_of_a_lattice_are_those_of_all_its_points(positions: list[float], period: int) -> None:
    """Only points nearer than two cells are evaluated: bit by bit, the others would have weighed nothing."""
    offset = np.float32(positions)[:, None] - np.arange(period, dtype=np.float32)
    nearest = np.float32(offset - period * np.rint(offset / period))
    assert np.array_equal(_periodic_weights(np.float32(positions), period), _cubic(nearest))


def test_splits_share_no_handwritten_image() -> None:
    train, validation = make(), make("validation")
    assert len(train.images) + len(validation.images) == 1797
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in validation.images}
    assert set(validation.labels) == set(range(10))


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    assert np.array_equal(make(frames=12).clip(5)[:8], make(frames=8).clip(5))


def test_stride_leaves_out_frames() -> None:
    every_other = MovingDigits("train", frames=4, stride=2, resolution=32, channels=3, digits=2, clips=100).clip(0)
    assert np.array_equal(every_other, make(frames=8).clip(0)[::2])


@given(
    resolution=st.integers(16, 80), frames=st.integers(2, 6), digits=st.integers(1, 4), channels=st.sampled_from([1, 3])
)
@settings(max_examples=12)
def test_any_size(resolution: int, frames: int, digits: int, channels: int) -> None:
    data = make(frames=frames, resolution=resolution, channels=channels, digits=digits)
    clip = data.clip(0)
    assert clip.shape == (frames, resolution, resolution, channels)
    assert clip.dtype == np.uint8
    assert clip.std() > 10
    flow, visible = data.flow(0)
    assert flow.shape == (frames - 1, 2, resolution, resolution)
    assert visible.shape == (frames - 1, resolution, resolution)
    assert 0 <= data.label(0) <= 9


def test_grey_is_the_luma_of_the_colours() -> None:
    colour, grey = make().clip(2).astype(np.float32), make(channels=1).clip(2).astype(np.float32)
    luma = colour @ np.array([0.299, 0.587, 0.114], np.float32)
    assert np.abs(luma - grey[..., 0]).mean() < 1  # colours are clipped before, grey after


def test_digits_stay_in_the_frame() -> None:
    data = make(frames=200)
    for index in range(5):
        scene = data._scene(index)
        corners = data._corners(scene)
        far = corners + scene.sizes[:, None, None]
        assert corners.min() >= 0
        assert far.max() <= 1
        assert np.ptp(corners, axis=1).max() > 0.3  # and do move


def test_flow_brings_each_frame_to_the_next() -> None:
    data = make(resolution=64)
    for index in range(4):
        error, visible = warp_error(data, index)
        unmoved = np.abs(np.diff(data.clip(index).astype(np.float32), axis=0)).mean(axis=3)
        assert visible.mean() > 0.8
        assert np.median(error[visible]) < 1
        assert error[visible].mean() < 0.35 * unmoved[visible].mean()
        assert error[~visible].mean() > 3 * error[visible].mean()


def test_flow_of_the_background_is_the_pan_and_of_digits_their_own() -> None:
    data = make(digits=1)
    flow, _ = data.flow(0)
    pan = data._scene(0).pan_velocity * 32
    step = np.diff(data._corners(data._scene(0))[0], axis=0) * 32
    for t in range(7):
        moves = {tuple(np.round(move, 4)) for move in flow[t].reshape(2, -1).T}
        assert moves == {tuple(np.round(pan, 4)), tuple(np.round(-step[t], 4))}


def test_nearer_digits_hide_farther_ones_and_give_the_label() -> None:
    data = make(frames=30, digits=4)
    scene = data._scene(0)
    assert data.label(0) == scene.labels[-1]
    rows, columns, alpha = data._alphas(scene)[-1]
    clip = data.clip(0)
    for t in range(30):
        solid = clip[t, rows[t], columns[t]][alpha[t] == 1]
        assert np.abs(solid - scene.colours[-1] * 255).max() <= 1


def test_copying_the_last_frame_fails() -> None:
    data = make("validation", frames=16, resolution=64)
    scores = []
    for index in range(20):
        clip = data.clip(index).astype(np.float64)
        scores.append((10 * np.log10(255**2 / ((clip[5:] - clip[4]) ** 2).mean(axis=(1, 2, 3)))).mean())
    assert 15 < np.mean(scores) < 19


def test_a_clip_beyond_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        make().clip(100)
