"""Flow from warping weights: hand-made weights, a plainly written combination, the end point error's formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trivd.config import MotionLevels
from trivd.models.motion import endpoint_error, expected_displacement, motion_field
from trivd.runtime.errors import TrivdError


def one_hot(size: int, row: int, column: int, height: int, width: int) -> Tensor:
    """Weights (k*k, H, W) that read one tap everywhere."""
    weights = torch.zeros(size * size, height, width)
    weights[row * size + column] = 1
    return weights


@given(st.sampled_from([1, 3, 5]), st.integers(1, 6), st.integers(1, 6), st.data())
@settings(max_examples=30, deadline=None)
def test_one_tap_is_its_displacement(size: int, height: int, width: int, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    flow = expected_displacement(one_hot(size, row, column, height, width))
    assert flow.shape == (2, height, width)
    assert (flow[0] == column - size // 2).all()  # x
    assert (flow[1] == row - size // 2).all()  # y


def test_content_that_moved_right_has_negative_x() -> None:
    """Reading the left neighbour (Eq 11) shifts content to the right; backward flow points left, where it came from."""
    flow = expected_displacement(one_hot(3, 1, 0, 4, 4))
    torch.testing.assert_close(flow[:, 0, 0], torch.tensor([-1.0, 0.0]))


def test_weights_are_averaged_as_a_distribution() -> None:
    weights = 0.75 * one_hot(3, 1, 2, 2, 2) + 0.25 * one_hot(3, 0, 0, 2, 2)
    torch.testing.assert_close(expected_displacement(weights)[:, 0, 0], torch.tensor([0.5, -0.25]))


@pytest.mark.parametrize("taps", [4, 8])
def test_other_numbers_of_taps_are_refused(taps: int) -> None:
    with pytest.raises(ValueError, match="k odd"):
        expected_displacement(torch.zeros(taps, 2, 2))


def test_levels_combine_as_in_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    warps = {r: torch.randn(2, 3, 2, 9, r, r, generator=generator).softmax(dim=3) for r in (8, 4)}
    field = motion_field(warps, 8, "all")
    assert field.shape == (2, 3, 2, 8, 8)
    coarse, fine = (expected_displacement(warps[r]) for r in (4, 8))
    for t, b, d, i, j in ((0, 0, 0, 0, 0), (1, 2, 1, 3, 4), (0, 1, 0, 7, 2), (1, 0, 1, 5, 7)):
        value = 0.0
        for link in range(2):
            value += fine[t, b, link, d, i, j].item() / 2
            value += 2 * bilinear(coarse[t, b, link, d], (i + 0.5) / 2 - 0.5, (j + 0.5) / 2 - 0.5) / 2
        assert field[t, b, d, i, j].item() == pytest.approx(value, abs=1e-5)


def bilinear(image: Tensor, row: float, column: float) -> float:
    """Value of an (H, W) image between its pixels, the border repeated."""
    row, column = (min(max(value, 0), size - 1) for value, size in zip((row, column), image.shape, strict=True))
    total = 0.0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            total += max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j)) * image[i, j].item()
    return total


# What a unit that reads its right neighbour adds to the flow of 64 pixels: one of its own pixels.
RIGHT = {8: 8.0, 16: 4.0, 32: 2.0}


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ("all", 8 + 4 + 2),
        (1, 2),
        (2, 4 + 2),
        (3, 8 + 4 + 2),
        (7, 8 + 4 + 2),  # there are no more
        (8, 8),  # a resolution, since no model has eight levels
        (32, 2),
        ((16,), 4),
        ((8, 32), 8 + 2),
        ((32, 16), 4 + 2),
        ((16, 16), 4),  # no level counts twice
    ],
)
def test_the_chosen_levels_add_up_in_output_pixels(levels: MotionLevels, expected: float) -> None:
    warps = {r: one_hot(3, 1, 2, r, r)[None, None, None] for r in RIGHT}
    field = motion_field(warps, 64, levels)
    assert field.shape == (1, 1, 2, 64, 64)
    torch.testing.assert_close(field[0, 0, 0], torch.full((64, 64), float(expected)))
    torch.testing.assert_close(field[0, 0, 1], torch.zeros(64, 64))


@pytest.mark.parametrize("levels", [0, -1, 64, (), (2,), (8, 64), (8, 16, 24)])
def test_levels_that_the_model_lacks_are_refused(levels: MotionLevels) -> None:
    warps = {r: one_hot(3, 1, 2, r, r)[None, None, None] for r in RIGHT}
    with pytest.raises(TrivdError, match=r"^motion_levels is .* recurrent units: 8, 16, 32\.$"):
        motion_field(warps, 64, levels)


def test_a_model_that_does_not_warp_has_no_motion() -> None:
    with pytest.raises(TrivdError, match=r"model\.unit"):
        motion_field({}, 64, 1)


def test_endpoint_error_counts_visible_pixels() -> None:
    truth = torch.zeros(2, 2, 2)
    flow = torch.zeros(2, 2, 2)
    flow[:, 0, 0] = torch.tensor([3.0, 4.0])
    flow[:, 1, 1] = 100.0
    visible = torch.tensor([[True, True], [False, False]])
    assert endpoint_error(flow, truth, visible).item() == 2.5
    assert endpoint_error(flow, truth, torch.zeros_like(visible)).isnan()
