"""Warping against its plain form, and the sizes of the hyper-network f (F.1)."""

from typing import get_args

import pytest
import torch
from agreement import assert_same, scramble
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reference import warping as plain_warping
from trivd.config import WarpPadding
from trivd.models.recurrent import TSRU, KTrajGRU
from trivd.models.warping import FactorizedKernels, PixelwiseKernels
from trivd.ops.warp import warp

SIZES = st.integers(1, 6)


def one_tap(size: int, row: int, column: int, height: int, width: int) -> Tensor:
    weights = torch.zeros(1, size**2, height, width)
    weights[:, row * size + column] = 1
    return weights


@pytest.mark.parametrize("padding", get_args(WarpPadding))
@pytest.mark.parametrize("k", [1, 3, 5])
@given(batch=st.integers(1, 3), channels=st.integers(1, 3), height=SIZES, width=SIZES, seed=st.integers(0, 999))
@settings(max_examples=8)
def test_warp_is_equation_11(
    padding: WarpPadding, k: int, batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    h = torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(batch, k**2, height, width, dtype=torch.float64, requires_grad=True)
    warped = warp(h, weights, padding == "replicate")
    assert_same([warped], [plain_warping.warp(h, weights, padding)], [h, weights])


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("k", [3, 5])
def test_warp_gradcheck(k: int, replicate: bool) -> None:
    h = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, k**2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(warp, (h, weights, replicate))


def test_a_replicated_border_leaves_constant_features_as_they_are() -> None:
    """Weights sum to 1, so that no dark margin appears."""
    weights = torch.rand(2, 25, 4, 6, dtype=torch.float64).softmax(1)
    constant = torch.full((2, 3, 4, 6), 0.7, dtype=torch.float64)
    torch.testing.assert_close(warp(constant, weights, replicate=True), constant)
    assert warp(constant, weights)[..., 0, 0].max() < 0.6


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 2), (1, 1), (2, 1), (4, 3)])
def test_one_tap_shifts_and_zeros_enter(row: int, column: int) -> None:
    h = torch.randn(1, 2, 5, 6)
    expected = torch.zeros_like(h)
    down, right = 2 - row, 2 - column  # reading the row above moves the content down
    for i in range(5):
        for j in range(6):
            if 0 <= i - down < 5 and 0 <= j - right < 6:
                expected[..., i, j] = h[..., i - down, j - right]
    torch.testing.assert_close(warp(h, one_tap(5, row, column, 5, 6)), expected, rtol=0, atol=0)


def test_warp_keeps_the_features_type() -> None:
    assert warp(torch.ones(1, 1, 3, 3, dtype=torch.bfloat16), one_tap(3, 1, 1, 3, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("f", [FactorizedKernels, PixelwiseKernels])
def test_weights_are_distributions(f: type[FactorizedKernels] | type[PixelwiseKernels], k: int) -> None:
    kernels = scramble(f(12, k, (0.5, 0.5), links=3) if f is FactorizedKernels else f(12, k, (0.5, 0.5)))
    read = {name: 3 * torch.randn(2, n, 5, 7, dtype=torch.float64) for name, n in kernels.reads.items()}
    weights = kernels.bind()(read).weights()
    assert weights.shape == (2, 3 if f is FactorizedKernels else 1, k**2, 5, 7)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones_like(weights.sum(2)))
    assert weights.amax() > 2 / k**2  # far from uniform, so that the sum says something


def layer_sizes(*layers: torch.nn.Module) -> list[tuple[int, int]]:
    """(inputs, outputs) of each."""
    return [(layer.weight.shape[1], layer.weight.shape[0]) for layer in layers]


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("links", [1, 2])
@pytest.mark.parametrize("kernels", [None, 4, 30])
def test_factorized_hyper_network_has_the_sizes_of_f1(k: int, links: int, kernels: int | None) -> None:
    """One convolution and one hidden linear layer, each half as wide as [h; x]; S by one convolution."""
    unit = KTrajGRU(6, 10, warp_size=k, links=links, warp_kernels=kernels)
    count = kernels or k**2
    read = unit.first.convolutions
    features = 8 * 4 * 4  # half of [h; x]'s 16 channels, pooled to 4 x 4
    sizes = layer_sizes(read["kernel_features"], unit.kernels.hidden, unit.kernels.output, read["selection"])
    assert sizes == [(16, 8), (features, 8), (8, links * count * k**2), (16, links * count)]
    assert read["kernel_features"].weight.shape[2:] == read["selection"].weight.shape[2:] == (3, 3)


@pytest.mark.parametrize("k", [3, 5])
def test_pixelwise_hyper_network_has_two_hidden_layers(k: int) -> None:
    unit = TSRU(6, 10, flow="s", warping="pixelwise", warp_size=k)
    layers = [unit.first.convolutions["kernel_features"], unit.kernels.hidden, unit.kernels.output]
    assert layer_sizes(*layers) == [(16, 8), (8, 8), (8, k**2)]
    assert all(layer.weight.shape[2:] == (3, 3) for layer in layers)
