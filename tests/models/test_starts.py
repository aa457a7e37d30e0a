"""What untrained units do, measured on their outputs: the weight of warps on the centre, the share of the past kept."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reference.warping import warp
from trivd.config import ModelConfig
from trivd.config.upgrade import upgrade_model
from trivd.models.generator import Generator
from trivd.models.recurrent import TSRU, ConvGRU, ConvLSTM, DynamicConvLSTM, KTrajGRU, RecurrentUnit
from trivd.models.warping import taps_from_centre

WARPING: dict[str, Callable[..., RecurrentUnit]] = {
    "k_traj_gru": partial(KTrajGRU, links=2),
    **{f"tsru_{flow}": partial(TSRU, flow=flow) for flow in "cps"},
    **{f"ptsru_{flow}": partial(TSRU, flow=flow, warping="pixelwise") for flow in "cps"},
}
KEEPING: dict[str, Callable[..., RecurrentUnit]] = {"conv_gru": ConvGRU, **WARPING}
LSTMS: dict[str, Callable[..., RecurrentUnit]] = {"conv_lstm": ConvLSTM, "dynamic_conv_lstm": DynamicConvLSTM}
WHERE_NOTHING_IS = torch.zeros(1, 1, 4, 3, 3), torch.zeros(1, 4, 3, 3)  # x and h: of an unit only biases are left


@pytest.mark.parametrize("name", WARPING)
@given(data=st.data(), k=st.sampled_from([3, 5, 7]), above=st.floats(0.01, 0.999))
@settings(max_examples=8)
def test_an_untrained_warp_has_the_weight_on_the_centre(name: str, data: st.DataObject, k: int, above: float) -> None:
    """Whatever the number of kernels that are mixed; with k^2 of them, all other taps have the same."""
    weight = 1 / k**2 + above * (1 - 1 / k**2)
    kernels = {} if name.startswith("p") else {"warp_kernels": data.draw(st.none() | st.integers(1, 30))}
    unit = WARPING[name](4, 4, warp_size=k, warp_start_weight=weight, **kernels).double()
    _, weights = unit(*(tensor.double() for tensor in WHERE_NOTHING_IS), return_weights=True)
    centre = weights[:, :, :, k**2 // 2]
    torch.testing.assert_close(centre, torch.full_like(centre, weight), rtol=0, atol=1e-6)
    if kernels.get("warp_kernels") in (None, k**2):
        others = torch.cat(weights.split([k**2 // 2, 1, k**2 // 2], dim=3)[::2], dim=3)
        torch.testing.assert_close(others, torch.full_like(others, (1 - weight) / (k**2 - 1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 5, 9, 13])
def test_kernels_start_as_shifts_to_the_taps_nearest_the_centre(count: int) -> None:
    """Fewer than taps leave out the corners; more of them begin again with the centre."""
    unit = TSRU(4, 4, warp_kernels=count, warp_start_weight=0.9)
    logits = unit.kernels.output.bias.detach().view(count, 9)
    own = logits.argmax(1).tolist()
    assert (logits > 0).sum() == count
    assert sorted(own[:5]) == sorted([4, 1, 3, 5, 7][:count])
    assert sorted(own[:9]) == list(range(9)) or count < 9
    assert own[9:] == own[: max(0, count - 9)]
    chosen = (unit.first.convolutions["selection"].bias > 0).tolist()
    assert chosen == [tap == 4 for tap in own] or count == 1  # there is nothing to choose


@pytest.mark.parametrize("name", WARPING)
def test_without_a_weight_it_is_the_mean_of_all_taps(name: str) -> None:
    _, weights = WARPING[name](4, 4, warp_size=5)(*WHERE_NOTHING_IS, return_weights=True)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 25))


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_taps_are_named_from_the_centre_outwards(k: int) -> None:
    taps = taps_from_centre(k).tolist()
    distances = [math.hypot(tap // k - k // 2, tap % k - k // 2) for tap in taps]
    assert sorted(taps) == list(range(k**2))
    assert distances[0] == 0
    assert all(near <= far for near, far in pairwise(distances))


@pytest.mark.parametrize("unit", ["tsru_p", "k_traj_gru", "ptsru_s"])
def test_starts_reach_every_unit_of_a_generator(unit: str) -> None:
    frames, z = torch.rand(2, 5, 3, 64, 64), torch.randn(2, 128)
    mean: dict[str, Any] = {"generator_channels": 2, "discriminator_channels": 2, "unit": unit, "warp_size": (3, 5, 7)}
    centres = []  # mean weight of the centre at each resolution
    for changes in ({}, {"warp_start_weight": 0.6}):
        torch.manual_seed(0)
        with torch.no_grad():
            warps = Generator(ModelConfig(**mean, **changes))(frames, z, return_warps=True).warps
        assert {r: weights.shape[3] for r, weights in warps.items()} == {8: 9, 16: 25, 32: 49}
        centres.append([weights[:, :, :, weights.shape[3] // 2].mean() for weights in warps.values()])
    for plain, near in zip(*centres, strict=True):  # otherwise the same networks
        assert near > plain + 0.2


@pytest.mark.parametrize("k", [3, 5, 11, 31])
@pytest.mark.parametrize("unit", ["tsru_p", "ptsru_c"])
def test_an_old_copy_is_about_the_weight_that_it_was(unit: str, k: int) -> None:
    """Kernel n had e^5 on tap n, and e^2 of the selection was on the middle one; in pixelwise warps e^2 of the taps."""
    selection = torch.zeros(k**2, dtype=torch.float64)
    selection[k**2 // 2] = 2
    weights = selection.softmax(0)
    if unit == "tsru_p":
        weights = weights @ (5 * torch.eye(k**2, dtype=torch.float64)).softmax(1)
    upgraded = upgrade_model({"unit": unit, "warp_size": k, "warp_start": "copy", "warp_hidden": (0.5, 0.5)}, 2)
    assert ModelConfig(**upgraded).warp_start_weight == pytest.approx(weights[k**2 // 2].item(), rel=0.05)
    assert "warp_start" not in upgraded


def first_state(build: Callable[..., RecurrentUnit], gate_bias: float, x: Tensor, h: Tensor) -> Tensor:
    torch.manual_seed(0)
    unit = build(4, 4, gate_bias=gate_bias).double().eval()
    states = unit(x, h)
    assert isinstance(states, Tensor)
    return states[0].detach()


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("bias", [2.0, -1.0])
def test_a_gate_that_starts_with_a_bias_keeps_more_of_the_past(name: str, bias: float) -> None:
    """Saturated either way, the gate shows what it mixes, and so at any bias its logit: higher by the bias."""
    x, h = torch.randn(1, 2, 4, 5, 5, dtype=torch.float64), torch.rand(2, 4, 5, 5, dtype=torch.float64)
    past, content, plain, biased = (first_state(KEEPING[name], b, x, h) for b in (60.0, -60.0, 0.0, bias))
    if name in ("conv_gru", "k_traj_gru"):
        torch.testing.assert_close(past, h)
    else:
        torch.manual_seed(0)
        _, weights = KEEPING[name](4, 4).double().eval()(x, h, return_weights=True)
        torch.testing.assert_close(past, warp(h, weights[0, :, 0]))
    differs = (past - content).abs() > 1e-3
    before, after = (torch.logit((state - content) / (past - content))[differs] for state in (plain, biased))
    torch.testing.assert_close(after, before + bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LSTMS)
@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_an_lstm_that_starts_with_a_bias_forgets_less(name: str, bias: float) -> None:
    """Without inputs nothing is new: the cell is its share that the forget gate keeps."""
    x, cell = torch.zeros(1, 1, 4, 3, 3, dtype=torch.float64), torch.rand(1, 2, 3, 3, dtype=torch.float64)
    state = torch.cat([torch.zeros_like(cell), cell], 1)
    kept = first_state(LSTMS[name], bias, x, state)[:, 2:]
    torch.testing.assert_close(kept, cell / (1 + math.exp(-bias)))
