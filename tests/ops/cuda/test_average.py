"""Average pooling on a GPU against means written plainly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton_checks import DEVICES, close, triton_on

from trivd.ops import average


def means(x: Tensor, time: bool) -> Tensor:
    """Averages over pairs of rows, of columns, and of frames where there are several; odd ones are left out."""
    dims = [x.dim() - 2, x.dim() - 1, *([2] if time and x.dim() == 5 and x.shape[2] > 1 else [])]
    for dim in dims:
        x = x.narrow(dim, 0, x.shape[dim] // 2 * 2).unflatten(dim, (-1, 2)).mean(dim + 1)
    return x


@pytest.mark.parametrize("device", DEVICES)
@given(
    sizes=st.tuples(*(st.integers(low, high) for low, high in ((1, 3), (1, 40), (1, 5), (2, 7), (2, 9)))),
    clips=st.booleans(),
    time=st.booleans(),
    relu=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
@settings(max_examples=12)
def test_is_the_mean(
    device: torch.device, sizes: tuple[int, ...], clips: bool, time: bool, relu: bool, dtype: torch.dtype
) -> None:
    shape = sizes if clips else (*sizes[:2], *sizes[3:])
    x = torch.randn(shape).to(device, dtype).requires_grad_()
    with triton_on(device):
        ours = average.relu_and_average_pool(x, time) if relu else (average.average_pool(x, time),)
    exact = x.double()
    expected = (torch.where(exact > 0, exact, 0), means(exact, time)) if relu else (means(exact, time),)
    directions = [torch.randn_like(part) for part in ours]
    with triton_on(device):
        (found,) = torch.autograd.grad(ours, x, directions)
    (wanted,) = torch.autograd.grad(expected, x, [direction.double() for direction in directions])
    assert found.dtype == dtype
    for a, b in zip((*ours, found), (*expected, wanted), strict=True):
        close(a, b, dtype)
