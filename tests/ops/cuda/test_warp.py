"""Kernels of warps against Eq 11 and 12 written out, at random sizes."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton_checks import DEVICES, close

from reference.warping import warp as sliced_warp
from trivd.ops import mixed_warp, softmax, warp

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
SIZES = st.integers(1, 4)
PADDINGS = st.sampled_from(["zeros", "replicate"])


def random(shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(device, dtype)


def truth(h: Tensor, selection: Tensor, kernels: Tensor | None, links: int, taps: int, padding: str) -> Tensor:
    """Eq 12 and 11, link by link."""
    count = taps if kernels is None else selection.shape[1] // links
    warped = []
    for link in range(links):
        weights = selection[:, link * count : (link + 1) * count].softmax(1)
        if kernels is not None:
            own = kernels[:, link * count * taps : (link + 1) * count * taps].reshape(-1, count, taps).softmax(2)
            weights = torch.einsum("bnhw,bnt->bthw", weights, own)
        warped.append(sliced_warp(h, weights, padding))
    return torch.cat(warped, dim=1)


def assert_gradients(ours: Sequence[Tensor], result: Tensor, gradient: Tensor, sources: Sequence[Tensor]) -> None:
    """Ours are those of the result, which was computed in float64."""
    expected = torch.autograd.grad(result, sources, gradient.double())
    for a, b in zip(ours, expected, strict=True):
        close(a, b, ours[0].dtype)


@pytest.mark.parametrize("device", DEVICES)
@given(
    dtype=st.sampled_from(DTYPES),
    padding=PADDINGS,
    k=st.sampled_from([1, 3, 5]),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), SIZES, SIZES),
    seed=st.integers(0, 999),
)
@settings(max_examples=10)
def test_warps_are_equation_11(
    device: torch.device, dtype: torch.dtype, padding: str, k: int, shape: tuple[int, ...], seed: int
) -> None:
    torch.manual_seed(seed)
    batch, _, height, width = shape
    h, gradient = random(shape, device, dtype), random(shape, device, dtype)
    weights = random((batch, k**2, height, width), device, dtype)
    exact = [x.double().requires_grad_() for x in (h, weights)]
    expected = sliced_warp(*exact, padding)
    assert warp._warp.compiled is not None
    assert warp._warp_backward.compiled is not None
    close(warp._warp.compiled(h, weights, padding == "replicate"), expected.detach(), dtype)
    ours = warp._warp_backward.compiled(gradient, h, weights, padding == "replicate")
    assert_gradients(ours, expected, gradient, exact)


@pytest.mark.parametrize("device", DEVICES)
@given(
    dtype=st.sampled_from(DTYPES),
    padding=PADDINGS,
    k=st.sampled_from([1, 3, 3, 5]),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), SIZES, SIZES),
    links=st.integers(1, 2),
    count=st.one_of(st.none(), st.integers(1, 9)),
    further=st.integers(0, 7),
    seed=st.integers(0, 999),
)
@settings(max_examples=10)
def test_warps_of_logits_are_equations_12_and_11(
    device: torch.device,
    dtype: torch.dtype,
    padding: str,
    k: int,
    shape: tuple[int, ...],
    links: int,
    count: int | None,
    further: int,
    seed: int,
) -> None:
    """With `count` kernels for each link, or with weights of each position's own."""
    torch.manual_seed(seed)
    batch, channels, height, width = shape
    links, taps = 1 if count is None else links, k**2
    chosen = taps + further if count is None else links * count
    h, selection = random(shape, device, dtype), random((batch, chosen, height, width), device, dtype)
    logits = (
        [selection] if count is None else [selection, random((batch, links * count * taps + further), device, dtype)]
    )
    kernels = None if count is None else logits[1]
    exact = [x.double().requires_grad_() for x in (h, *logits)]
    expected = truth(exact[0], exact[1], None if count is None else exact[2], links, taps, padding)
    options = links, taps, padding == "replicate"
    assert mixed_warp._mixed_warp.compiled is not None
    assert mixed_warp._mixed_warp_backward.compiled is not None
    close(mixed_warp._mixed_warp.compiled(h, selection, kernels, *options), expected.detach(), dtype)
    gradient = random((batch, links * channels, height, width), device, dtype)
    ours = mixed_warp._mixed_warp_backward.compiled(gradient, h, selection, kernels, *options)
    assert_gradients(ours, expected, gradient, exact)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("k", "shape", "padding"),
    [
        (7, (1, 2, 1, 2), "zeros"),
        (9, (1, 1, 1, 2), "zeros"),
        (3, (1, 300, 1, 2), "zeros"),
        (1, (1, 129, 6, 6), "replicate"),
    ],
)
def test_wide_kernels_and_several_blocks(k: int, shape: tuple[int, ...], padding: str, device: torch.device) -> None:
    """More channels than a program reads at once, and more positions."""
    batch, _, height, width = shape
    h, selection = random(shape, device, torch.float64), random((batch, 3, height, width), device, torch.float64)
    kernels = random((batch, 3 * k**2), device, torch.float64)
    exact = [x.clone().requires_grad_() for x in (h, selection, kernels)]
    expected = truth(*exact, 1, k**2, padding)
    gradient = random(shape, device, torch.float64)
    options = 1, k**2, padding == "replicate"
    assert mixed_warp._mixed_warp.compiled is not None
    assert mixed_warp._mixed_warp_backward.compiled is not None
    close(mixed_warp._mixed_warp.compiled(h, selection, kernels, *options), expected.detach(), torch.float64)
    ours = mixed_warp._mixed_warp_backward.compiled(gradient, h, selection, kernels, *options)
    assert_gradients(ours, expected, gradient, exact)


@pytest.mark.parametrize("device", DEVICES)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    width=st.sampled_from([1, 9, 25]),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_softmax(dtype: torch.dtype, device: torch.device, shape: list[int], width: int, seed: int) -> None:
    """Large logits too."""
    torch.manual_seed(seed)
    x, gradient = 30 * random((*shape, width), device, dtype), random((*shape, width), device, dtype)
    assert softmax._softmax.compiled is not None
    assert softmax._softmax_backward.compiled is not None
    y = softmax._softmax.compiled(x)
    exact = x.double().requires_grad_()
    close(y, exact.detach().softmax(-1), dtype)
    ours = softmax._softmax_backward.compiled(gradient, y)
    slope = y.double() * (gradient.double() - (gradient.double() * y.double()).sum(-1, keepdim=True))
    close(ours, slope, dtype)


def test_logits_of_other_shapes_are_refused() -> None:
    h, selection, kernels = torch.ones(2, 3, 4, 5), torch.ones(2, 6, 4, 5), torch.ones(2, 54)
    calls = [
        (h[0], selection, kernels, 1, 9),
        (h, selection[:1], kernels, 1, 9),
        (h, selection, kernels[:1], 1, 9),
        (h, selection, kernels[:, :53], 1, 9),
        (h, selection, kernels, 4, 9),
        (h, selection, None, 1, 9),
        (h, selection, None, 2, 3),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="do not warp"):
            mixed_warp.mixed_warp(*call)
