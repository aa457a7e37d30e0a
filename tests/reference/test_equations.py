"""The reference's tensor operations against the paper's sums, written as loops over positions, taps and channels."""

from itertools import product
from math import ceil
from typing import get_args

import pytest
import torch
from agreement import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from reference.blocks import FrameNorm
from reference.units import ConvLSTM, DynamicConvLSTM
from reference.warping import FactorizedKernels, warp
from trivd.config import ModelConfig, WarpPadding

SIZES = st.integers(1, 6)


def scrambled(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, no bias zero."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def adaptive_max(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size); bin i covers rows floor(i H / size) to ceil((i + 1) H / size) - 1."""
    height, width = x.shape[-2:]
    bins = [
        x[..., i * height // size : ceil((i + 1) * height / size), j * width // size : ceil((j + 1) * width / size)]
        for i, j in product(range(size), repeat=2)
    ]
    return torch.stack([part.amax((-2, -1)) for part in bins], -1).unflatten(-1, (size, size))


def softmax(x: Tensor, dim: int) -> Tensor:
    return x.exp() / x.exp().sum(dim, keepdim=True)


@pytest.mark.parametrize("padding", get_args(WarpPadding))
@pytest.mark.parametrize("k", [1, 3, 5])
@given(batch=st.integers(1, 3), channels=st.integers(1, 3), height=SIZES, width=SIZES, seed=st.integers(0, 999))
@settings(max_examples=8)
def test_warp_is_equation_11(
    padding: WarpPadding, k: int, batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    """Outside lie zeros, or the nearest of the features."""
    torch.manual_seed(seed)
    h = torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(batch, k**2, height, width, dtype=torch.float64, requires_grad=True)
    positions = []
    for i, j in product(range(height), range(width)):
        total = torch.zeros_like(h[:, :, 0, 0])
        for m, n in product(range(k), repeat=2):
            row, column = i + m - (k - 1) // 2, j + n - (k - 1) // 2
            if padding == "replicate":
                row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            if 0 <= row < height and 0 <= column < width:
                total = total + weights[:, m * k + n, i, j].unsqueeze(1) * h[:, :, row, column]
        positions.append(total)
    expected = torch.stack(positions, -1).unflatten(-1, (height, width))
    assert_same([warp(h, weights, padding)], [expected], [h, weights])


@pytest.mark.parametrize("links", [1, 2])
@given(
    k=st.sampled_from([1, 3]),
    kernels=st.none() | st.integers(1, 12),
    batch=st.integers(1, 3),
    height=SIZES,
    width=SIZES,
    seed=st.integers(0, 999),
)
@settings(max_examples=6)
def test_factorized_kernels_are_equation_12(
    links: int, k: int, kernels: int | None, batch: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    f = scrambled(FactorizedKernels(ModelConfig(unit="k_traj_gru", links=links, warp_kernels=kernels), 6, k))
    count = k**2 if kernels is None else kernels
    hx = torch.randn(batch, 6, height, width, dtype=torch.float64, requires_grad=True)
    pooled = adaptive_max(F.relu(f.features(hx)), 4).flatten(1)
    raw = f.output(F.relu(f.hidden(pooled))).view(batch, links, count, k**2)
    selection = f.selection(hx)
    expected = []
    for link in range(links):
        w = softmax(raw[:, link].transpose(1, 2), 1)  # (B, k^2, N): each of the N kernels sums to one
        s = softmax(selection[:, link * count : (link + 1) * count], 1)
        mixed = [sum(s[:, n] * w[:, q, n, None, None] for n in range(count)) for q in range(k**2)]
        expected.append(torch.stack(mixed, 1))
    assert_same([f(hx)], [torch.stack(expected, 1)], [hx, *f.parameters()])


@pytest.mark.parametrize("multiple", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_dynamic_kernels_are_those_of_each_pair_of_channels(multiple: int, size: int) -> None:
    """F.4: one small network maps every difference F_t[i] - F_{t-1}[j] to the kernels from channel i to channel j."""
    half, batch = 2, 2
    unit = scrambled(DynamicConvLSTM(ModelConfig(kernel_size=size), multiple * half, 2 * half))
    x = torch.randn(3, batch, multiple * half, 5, 6, dtype=torch.float64, requires_grad=True)
    initial = torch.randn(batch, 2 * half, 5, 6, dtype=torch.float64, requires_grad=True)
    state, previous, states = initial, initial[:, :half], []
    for x_t in x:
        h, m = state[:, :half], state[:, half:]
        raw: dict[tuple[int, int], Tensor] = {}
        for i, j in product(range(half), repeat=2):
            maps = F.relu(unit.features((x_t[:, i] - previous[:, j]).unsqueeze(1)))
            raw[i, j] = unit.output(adaptive_max(maps, 4).flatten(1)).view(-1, 4, multiple + 1, size, size)
        sums = {j: sum(raw[i, j].exp() for i in range(half)) for j in range(half)}
        kernel = {(i, j): raw[i, j].exp() / sums[j] for i, j in raw}  # softmax over the input channels i
        gates = []
        for gate in range(4):
            samples = []
            for b in range(batch):
                outputs = [
                    torch.stack([kernel[i, j][b, gate, p] for p in range(multiple + 1) for i in range(half)])
                    for j in range(half)
                ]
                bias = unit.bias[gate * half : (gate + 1) * half]
                samples.append(F.conv2d(torch.cat([h, x_t], 1)[b], torch.stack(outputs), bias, padding=size // 2))
            gates.append(torch.stack(samples))
        i, f, o = (1 / (1 + (-gate).exp()) for gate in gates[:3])
        m = f * m + i * gates[3].clamp(min=0)
        state = torch.cat([o * m.clamp(min=0), m], 1)
        states.append(state)
        previous = x_t[:, :half]
    assert_same([unit(x, initial)], [torch.stack(states)], [x, initial, *unit.parameters()])


def test_conv_lstm_halves_the_encoding() -> None:
    """F.3: hidden state and memory cell start as its halves; with gates that are shut and open, the cell stays."""
    unit = ConvLSTM(ModelConfig(), 3, 4)
    with torch.no_grad():
        for gate, bias in ((unit.w_input, -1e9), (unit.w_forget, 1e9), (unit.w_output, 1e9)):
            gate.bias.fill_(bias)
    initial = torch.rand(2, 4, 5, 5)
    states = unit(torch.randn(3, 2, 3, 5, 5), initial)
    for state in states:
        assert torch.equal(state, torch.cat([initial[:, 2:]] * 2, 1))


@pytest.mark.parametrize("training", [False, True])
def test_frame_norm_subtracts_means_and_divides_by_deviations(training: bool) -> None:
    norm, x = FrameNorm(2, 3, None).double().train(training), 3 * torch.randn(2, 4, 3, 5, 6).double() + 1
    mean, variance = x.mean((1, 3, 4)), x.var((1, 3, 4), correction=0)
    if not training:
        mean, variance = mean + 1, 2 * variance
        norm.standing_mean.copy_(mean)
        norm.standing_variance.copy_(variance)
    expected = (x - mean[:, None, :, None, None]) / (variance[:, None, :, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(norm(x, torch.zeros(4, 1)), expected)
