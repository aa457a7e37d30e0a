"""Pooled features of f on a GPU against PyTorch's adaptive max-pooling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from triton_checks import DEVICES, triton_on

from trivd.ops import pool

SIZES = st.tuples(*[st.integers(1, n) for n in (2, 70, 9, 9)])  # B, C, H, W


@pytest.mark.parametrize("device", DEVICES)
@given(
    sizes=SIZES,
    size=st.integers(1, 4),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    levels=st.sampled_from([2, 100]),
)
@settings(max_examples=12)
def test_is_relu_of_adaptive_max_pooling(
    device: torch.device, sizes: tuple[int, ...], size: int, dtype: torch.dtype, levels: int
) -> None:
    """Of few levels, where many values are equal, too; windows overlap, and may be more than places."""
    x = torch.randint(-levels, levels, sizes).to(device, dtype).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    expected = F.relu(F.adaptive_max_pool2d(x, size).flatten(1))
    with triton_on(device):
        actual = pool.pooled_features(x, size)
    assert (actual.dtype, actual.stride()) == (dtype, expected.stride())
    assert torch.equal(actual, expected)
    direction = torch.randint_like(actual, -8, 8)  # whose sums are exact in every type
    with triton_on(device):
        (found,) = torch.autograd.grad(actual, x, direction)
    (wanted,) = torch.autograd.grad(expected, x, direction)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("place", [0, 5, 12])
def test_what_is_no_number_is_passed_on(device: torch.device, place: int) -> None:
    x = torch.full((1, 2, 5, 3), -float("inf"), device=device)
    x[0, 1].view(-1)[place] = float("nan")
    with triton_on(device):
        actual = pool.pooled_features(x, 1)
    assert actual[0, 0] == 0
    assert actual[0, 1].isnan()


@pytest.mark.parametrize("device", DEVICES)
def test_derivative_is_that_of_finite_differences(device: torch.device) -> None:
    x = torch.randn(1, 1, 3, 2, dtype=torch.float64, device=device, requires_grad=True)

    def features(x: Tensor) -> Tensor:
        return pool.pooled_features(x, 2)

    with triton_on(device):
        assert torch.autograd.gradcheck(features, x)
