"""Parts of a layer's output on a GPU: as many and as wide as units have them, against the plain form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton_checks import DEVICES, close, triton_on

from trivd.ops import gates

PARTS = st.lists(st.tuples(st.sampled_from([1, 9, 48, 128, 131, 260]), st.integers(0, 3), st.booleans()), min_size=1)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])


@pytest.mark.parametrize("device", DEVICES)
@given(
    parts=PARTS.filter(lambda parts: len(parts) < 5), rows=st.integers(1, 7), padding=st.integers(0, 3), dtype=DTYPES
)
@settings(max_examples=15)
def test_parts_wider_and_narrower_than_a_block(
    parts: list[tuple[int, int, bool]], rows: int, padding: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Gradients too, of which some are missing; what fills up the layer is not read."""
    channels, codes, has_gradient = (list(values) for values in zip(*parts, strict=True))
    torch.manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64).to(device, dtype)

    raw, added = (drawn(rows, sum(channels) + padding) for _ in range(2))
    plain = gates.plain_activate(raw, added, channels, codes)
    given_gradients = [drawn(rows, count) if has else None for count, has in zip(channels, has_gradient, strict=True)]
    expected = gates.plain_activate_backward(given_gradients, plain, codes)
    with triton_on(device):
        ours = gates._activate(raw, added, channels, codes)
        gradient = gates._activate_backward(given_gradients, plain, codes)
    for part, value in zip(ours, plain, strict=True):
        close(part, value, dtype)
    close(gradient, expected, dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", range(4), ids=gates.ACTIVATIONS)
def test_parts_without_a_gradient_are_not_read(activation: int, device: torch.device) -> None:
    unread = torch.full((2, 3), float("nan"), device=device)
    ones = torch.ones(2, 3, device=device)
    with triton_on(device):
        gradient = gates._activate_backward([None, ones], [unread, ones], [activation, 0])
    assert gradient.tolist() == [[0, 0, 0, 1, 1, 1]] * 2
