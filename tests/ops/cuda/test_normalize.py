"""Normalisation of frames on a GPU: statistics against numpy, the whole unit against its equation."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from agreement import scramble
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from triton_checks import DEVICES, close, triton_on

from benchmarks.launches import launches
from trivd.models.frame_norm import FrameNormReLU, affine_maps
from trivd.ops import normalize
from trivd.ops.cuda.library import kernels

DTYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])
SIZES = st.tuples(*[st.integers(1, n) for n in (3, 3, 70, 9, 9)])  # T, B, C, H, W
BUSY = st.sampled_from([1, 1056])  # programs: one goes over many blocks, or many over one each


def features(size: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Random ones, channels innermost."""
    frames, batch, channels, height, width = size
    x = torch.randn(frames, batch, height, width, channels, dtype=torch.float64)
    return x.to(device, dtype).movedim(-1, 2)


@pytest.fixture
def with_programs(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(kernels("parts"), "PROGRAMS", count)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mean", [0, 1e3])
def test_statistics_are_those_of_numpy(mean: float, device: torch.device, with_programs: Callable[[int], None]) -> None:
    """Far from zero too, where squares would lose all digits."""

    @given(size=SIZES, dtype=DTYPES, programs=BUSY)
    @settings(max_examples=15)
    def check(size: tuple[int, ...], dtype: torch.dtype, programs: int) -> None:
        with_programs(programs)
        x = (mean + features(size, device, torch.float64)).to(dtype)
        with triton_on(device):
            found = normalize.statistics(x)
        exact = x.double().cpu().numpy()
        accuracy = 1e-11 if dtype == torch.float64 else 2e-6
        for actual, expected in zip(found, (exact.mean((1, 3, 4)), exact.var((1, 3, 4))), strict=True):
            assert actual.dtype == torch.promote_types(dtype, torch.float32)
            np.testing.assert_allclose(
                actual.cpu().numpy(), expected, rtol=100 * accuracy, atol=max(1, mean) * accuracy
            )

    check()


def equation(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """What the ReLU reads."""
    mean, variance = (values[:, None, :, None, None] for values in (mean, variance))
    scale, offset = (values.double()[..., None, None] for values in (scale, offset))
    return (x - mean) / (variance + FrameNormReLU.epsilon).sqrt() * scale + offset


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [True, False])
def test_unit_is_its_equation(training: bool, device: torch.device, with_programs: Callable[[int], None]) -> None:
    """Values and gradients, with scale and offset of each sample or of all; slices as `affine_maps` gives them."""

    @given(size=SIZES, dtype=DTYPES, programs=BUSY, conditional=st.booleans())
    @settings(max_examples=20)
    def check(size: tuple[int, ...], dtype: torch.dtype, programs: int, conditional: bool) -> None:
        with_programs(programs)
        frames, batch, channels, height, width = size
        norm = FrameNormReLU(frames, channels, None).to(device).train(training)
        norm.standing_mean.normal_()
        norm.standing_variance.uniform_(0.5, 2)
        if dtype == torch.float64:
            norm.double()
        x = features(size, device, dtype).requires_grad_()
        maps = torch.randn(batch, 2 * channels + 3) if conditional else torch.randn(2 * channels + 3)
        maps = maps.to(device, norm.standing_mean.dtype).requires_grad_()
        scale, offset, _ = maps.split([channels, channels, 3], dim=-1)
        with triton_on(device):
            y = norm(x, (scale, offset))
        exact = x.detach().double().requires_grad_()
        moments = exact.mean((1, 3, 4)), exact.var((1, 3, 4), correction=0)
        standing = norm.standing_mean.double(), norm.standing_variance.double()
        read = equation(exact, *(moments if training else standing), scale, offset)
        direction = torch.randn_like(y)
        assert y.dtype == dtype
        close(y, read.relu(), dtype)
        with triton_on(device):
            found = torch.autograd.grad(y, [x, maps], direction, retain_graph=True)
        wanted = torch.autograd.grad(read * (y > 0), [exact, maps], direction.double())  # rounding has changed no sign
        terms = batch * height * width
        if training and terms == 1:  # the deviation is that of rounding
            return
        loose = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 2e-2}[dtype]
        for a, b in zip(found, wanted, strict=True):
            assert (a - b).norm() <= loose * b.norm() + 1e-5 * terms**0.5

    check()


@pytest.mark.parametrize("device", DEVICES)
def test_processes_share_their_statistics(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two with the same batch have its statistics and gradients."""
    norm = FrameNormReLU(2, 5, None).to(device)
    x = features((2, 3, 5, 4, 3), device, torch.float32).requires_grad_()
    results, means = [], 0

    def same(values: Tensor) -> Tensor:
        nonlocal means
        means += 1
        return values.clone()

    for processes in (1, 2):
        monkeypatch.setattr("trivd.ops.normalize.world_size", lambda n=processes: n)
        monkeypatch.setattr("trivd.ops.normalize.all_reduce_mean", same)
        with triton_on(device):
            y = norm(x, (norm.scale, norm.offset))
            results.append([y.detach(), *torch.autograd.grad(y, [x, norm.scale], torch.ones_like(y).cumsum(-1))])
    assert means == 3  # of gradients twice, of moments once
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("device", DEVICES)
def test_standing_statistics_that_are_missing_are_seen(device: torch.device) -> None:
    norm = FrameNormReLU(2, 3, None).to(device).eval()
    with triton_on(device):
        assert norm(features((2, 4, 3, 5, 5), device, torch.bfloat16), (norm.scale, norm.offset)).isnan().all()


@pytest.mark.parametrize("device", DEVICES)
def test_affine_maps_are_those_of_a_cpu(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = nn.ModuleList([FrameNormReLU(1, 4, 5), FrameNormReLU(1, 3, None), FrameNormReLU(1, 2, 5)])
    scramble(norms).to(device)
    condition = torch.randn(3, 5, dtype=torch.float64, device=device, requires_grad=True)
    results = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr("trivd.ops.cuda.library.fused", lambda x, module: False)
        with triton_on(device) if fused else nullcontext():
            maps = [value for pair in affine_maps(norms, condition).values() for value in pair]
        total = sum(value.square().sum() for value in maps)
        results.append([*maps, *torch.autograd.grad(total, [condition, *norms.parameters()])])  # type: ignore[arg-type]
    torch.testing.assert_close(*results)


def test_launches() -> None:
    """Of a training step's FrameNormReLU, and of prediction's."""
    x = features((2, 3, 4, 5, 5), torch.device("cpu"), torch.bfloat16).requires_grad_()
    norm, affine = FrameNormReLU(2, 4, 1), (torch.ones(3, 4).requires_grad_(), torch.zeros(3, 4).requires_grad_())
    counts = []
    for training in (True, False):
        with launches(triton=True) as forward:
            y = norm.train(training)(x, affine)
        direction = torch.ones_like(y)
        with launches(triton=True) as backward:
            torch.autograd.grad(y, [x, *affine], direction)
        counts.append((forward.counts.total(), backward.counts.total()))
    assert counts == [(3, 3), (1, 3)]
