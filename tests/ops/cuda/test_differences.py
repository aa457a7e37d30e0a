"""Pooled differences of channels on a GPU against adaptive max-pooling of all differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from triton_checks import DEVICES, triton_on

from trivd.models.recurrent.lstm import DynamicConvLSTM
from trivd.ops.differences import pooled_differences, pooling_windows


@pytest.mark.parametrize("device", DEVICES)
@given(
    sizes=st.tuples(*[st.integers(1, n) for n in (2, 5, 1, 7, 7)]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
@settings(max_examples=10)
def test_is_adaptive_pooling_of_all_differences(
    device: torch.device, sizes: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Of whole numbers, which no type rounds; many are equal."""
    batch, channels, width, *_ = sizes
    now, before = (torch.randint(-20, 20, sizes).to(device, dtype).requires_grad_() for _ in range(2))
    with triton_on(device):
        actual = pooled_differences(pooling_windows(now, 4), pooling_windows(before, 4))
    differences = F.relu(now.unsqueeze(1) - before.unsqueeze(2)).flatten(0, 3)
    expected = F.adaptive_max_pool2d(differences, 4).view(batch, channels, channels, width * 16)
    assert actual.dtype == dtype
    assert torch.equal(actual, expected)
    direction = torch.randint_like(actual, -8, 8)
    with triton_on(device):
        found = torch.autograd.grad(actual, [now, before], direction)
    for a, b in zip(found, torch.autograd.grad(expected, [now, before], direction), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("resolution", [4, 5])
def test_unit_is_that_of_a_cpu(device: torch.device, resolution: int, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = DynamicConvLSTM(2, 4).double().to(device).eval()
    x = torch.randn(2, 1, 2, resolution, resolution, dtype=torch.float64, device=device)
    initial = torch.randn(1, 4, resolution, resolution, dtype=torch.float64, device=device)
    results = []
    with triton_on(device):
        y = unit(x, initial)
        results.append([y, *torch.autograd.grad(y.square().sum(), list(unit.parameters()))])
    monkeypatch.setattr("trivd.ops.cuda.library.fused", lambda x, module: False)
    y = unit(x, initial)
    results.append([y, *torch.autograd.grad(y.square().sum(), list(unit.parameters()))])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
