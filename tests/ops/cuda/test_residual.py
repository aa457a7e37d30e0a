"""Biases and sums of residual blocks on a GPU against convolutions that add their biases themselves."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from agreement import scramble
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from triton_checks import DEVICES, close, triton_on

from trivd.models.blocks import DBlock, GBlock
from trivd.models.frame_norm import affine_maps
from trivd.ops import residual
from trivd.runtime.hardware import to_channels_last

SIZES = [st.integers(1, n) for n in (3, 40, 4, 7, 9)]  # B, C, T, H, W


@pytest.mark.parametrize("device", DEVICES)
@given(
    sizes=st.tuples(*SIZES),
    clips=st.booleans(),
    kind=st.sampled_from(["biased", "relu", "add", "add upsampled"]),
    both=st.booleans(),
    frozen=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
@settings(max_examples=20)
def test_is_the_sum(
    device: torch.device,
    sizes: tuple[int, ...],
    clips: bool,
    kind: str,
    both: bool,
    frozen: bool,
    dtype: torch.dtype,
) -> None:
    """`frozen`: biases without a gradient, as a discriminator's in the generator's update."""
    batch, channels, *pixels = sizes
    upsample = kind == "add upsampled"
    small = pixels[1:] if upsample or not clips else pixels
    shape = [2 * n for n in small] if upsample else small
    precise = torch.promote_types(dtype, torch.float32)

    def drawn(*size: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(size).to(device, dtype).requires_grad_()

    x, other = drawn(batch, channels, *shape), drawn(batch, channels, *small)
    bias, second = (drawn(channels, dtype=precise).requires_grad_(not frozen) for _ in range(2))
    with triton_on(device):
        if kind == "biased":
            ours = residual.biased((x, bias))
        elif kind == "relu":
            ours = residual.relu((x, bias))
        else:
            ours = residual.add((x, bias), (other, second if both else None), upsample)
    gradient = torch.randn_like(ours)
    across = (-1, *[1] * (x.dim() - 2))
    expected = x.double() + bias.double().view(across)
    if kind == "relu":
        expected = torch.where(ours > 0, expected, 0)  # where rounding has changed no sign
    if kind.startswith("add"):
        repeated = other.double()
        if upsample:
            repeated = repeated.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = expected + repeated + (second.double().view(across) if both else 0)
    close(ours, expected, dtype)
    assert ours.dtype == dtype
    sources = [x, *([other] if kind.startswith("add") else [])]
    if not frozen:
        sources += [bias, *([second] if both and kind.startswith("add") else [])]
    with triton_on(device):
        found = torch.autograd.grad(ours, sources, gradient)
    wanted = torch.autograd.grad(expected, sources, gradient.double())
    for source, a, b in zip(sources, found, wanted, strict=True):
        assert a.dtype == source.dtype
        close(a, b, dtype)


@pytest.mark.parametrize("device", DEVICES)
def test_sums_over_many_positions_keep_their_digits(device: torch.device) -> None:
    """More positions than one program goes over, not a multiple of its block."""
    x = torch.ones(3, 5, 101, 103, device=device, dtype=torch.bfloat16, requires_grad=True)
    bias = torch.zeros(5, device=device, requires_grad=True)
    with triton_on(device):
        residual.relu((x, bias)).sum().backward()
    assert bias.grad is not None
    assert bias.grad.tolist() == [3 * 101 * 103] * 5


def d_block(device: torch.device, dimensions: int, pool: bool) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    x = torch.randn(2, 3, *[4] * (dimensions - 2), 10, 8, dtype=torch.float64, device=device)
    block = DBlock(3, 5, dimensions, activate=True, pool=pool, pool_time=True)
    return block, lambda module: module(x.requires_grad_())


def g_block(device: torch.device, outputs: int, up: bool) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    x = torch.randn(4, 4, 3, 5, dtype=torch.float64, device=device, requires_grad=True)
    condition = torch.randn(2, 5, dtype=torch.float64, device=device)
    block = GBlock(2, 4, outputs, 5, upsample=up)
    return block, lambda module: module(x, affine_maps(module, condition), 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("make", "arguments"),
    [(d_block, (d, pool)) for d in (2, 3) for pool in (True, False)]
    + [(g_block, (outputs, up)) for outputs in (3, 4) for up in (True, False)],
)
def test_blocks_are_those_of_a_cpu(
    device: torch.device,
    make: Callable[..., tuple[nn.Module, Callable[[nn.Module], Tensor]]],
    arguments: tuple[int, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block, call = make(device, *arguments)
    block = to_channels_last(scramble(block).to(device)).train()
    state = {name: value.clone() for name, value in block.state_dict().items()}
    results = []
    for fused in (True, False):
        block.load_state_dict(state)
        if not fused:
            monkeypatch.setattr("trivd.ops.cuda.library.fused", lambda x, module: False)
        with triton_on(device) if fused else nullcontext():
            y = call(block)
            gradients = torch.autograd.grad(y, list(block.parameters()), torch.ones_like(y).cumsum(-1))
        results.append([y, *gradients])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_biases_may_be_views(device: torch.device) -> None:
    x, biases = torch.zeros(2, 3, 4, 5, device=device), torch.arange(6.0, device=device).view(3, 2)
    with triton_on(device):
        found = residual._residual(x, None, biases[:, 0], biases[:, 1], False, False)
    assert found[0, :, 0, 0].tolist() == [1, 5, 9]
