"""Sharpness of ramps, whose gradient is known, and of blurred frames; motion magnitude of ramps that move."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivd.evaluation.metrics.sharpness import motion_magnitude, sharpness
from trivd.runtime.errors import TrivdError

SIZES = ((4, (4, 1, 1)), (7, (1, 7, 1)), (5, (1, 1, 5)))  # times, rows, columns: length, and shape against the others


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_ramp_has_its_slope(dtype: torch.dtype) -> None:
    rows, columns = torch.arange(12, dtype=dtype)[:, None], torch.arange(10, dtype=dtype)
    grey = 3 * rows + 4 * columns  # in levels from 0 to 255: 3 per pixel down, 4 per pixel to the right
    video = torch.stack([grey, 2 * grey])[None, :, None] / 127.5 - 1  # (1, 2, 1, 12, 10)
    torch.testing.assert_close(sharpness(video), torch.tensor([[5.0, 10.0]]), rtol=1e-4, atol=0)
    torch.testing.assert_close(sharpness(video.expand(1, 2, 3, 12, 10)), sharpness(video))


def test_colours_count_as_they_are_seen() -> None:
    checks = torch.zeros(1, 3, 3, 8, 8)
    for channel in range(3):
        checks[0, channel, channel, :, ::2] = 1
    # Every step to the right is 127.5 levels of one colour.
    torch.testing.assert_close(sharpness(checks), 127.5 * torch.tensor([[0.299, 0.587, 0.114]]))


def test_the_finest_detail_counts() -> None:
    stripes = torch.ones(1, 1, 1, 6, 6)
    stripes[..., ::2] = -1
    torch.testing.assert_close(sharpness(stripes), torch.tensor([[255.0]]))  # central differences would say 0


def test_the_more_blurred_the_less_sharp() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    video = torch.rand(2, 3, 3, 24, 24) * 2 - 1
    scores = [sharpness(video)]
    for sigma in (0.3, 0.6, 1.2, 2.4):
        blurred = ndimage.gaussian_filter(video.numpy(), (0, 0, 0, sigma, sigma))
        scores.append(sharpness(torch.from_numpy(blurred)))
        assert (scores[-1] < scores[-2]).all()
    assert scores[0].shape == (2, 3)


def test_a_constant_frame_is_not_sharp() -> None:
    assert (sharpness(torch.full((1, 2, 3, 4, 4), 0.5)) == 0).all()


def test_wrong_frames_are_refused() -> None:
    video = torch.rand(1, 2, 3, 8, 8)
    for wrong in (255.0, float("nan")):
        with pytest.raises(TrivdError, match=r"need values in \[-1, 1\]"):
            sharpness(video * wrong)
    for shape in ((2, 3, 8, 8), (1, 2, 2, 8, 8), (1, 2, 3, 1, 8)):
        with pytest.raises(TrivdError, match="Sharpness needs frames"):
            sharpness(torch.zeros(shape))


@given(st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([1, 3]))
def test_a_ramp_that_moves_changes_by_its_slope(down: int, right: int, channels: int) -> None:
    times, rows, columns = (torch.arange(n, dtype=torch.float32).view(v) for n, v in SIZES)
    grey = 20 + 3 * (rows - down * times) + 4 * (columns - right * times) + 60  # 3 levels a pixel down, 4 to the right
    video = (grey[None, :, None] / 127.5 - 1).expand(2, -1, channels, -1, -1)  # (2, 4, channels, 7, 5)
    found = motion_magnitude(video[:, 1:], video[:, 0])
    torch.testing.assert_close(found, torch.full((2, 3), float(abs(3 * down + 4 * right))), rtol=0, atol=1e-3)


def test_a_copy_does_not_move() -> None:
    last = torch.rand(2, 3, 8, 8)
    assert (motion_magnitude(last[:, None].expand(2, 4, 3, 8, 8), last) == 0).all()


def test_motion_of_wrong_frames_is_refused() -> None:
    with pytest.raises(TrivdError, match="the one before them"):
        motion_magnitude(torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 3, 8, 9))
    with pytest.raises(TrivdError, match="Motion magnitude needs frames"):
        motion_magnitude(torch.zeros(1, 2, 2, 8, 8), torch.zeros(1, 2, 8, 8))
    with pytest.raises(TrivdError, match=r"need values in \[-1, 1\]"):
        motion_magnitude(torch.zeros(1, 2, 3, 8, 8), torch.full((1, 3, 8, 8), 2.0))
