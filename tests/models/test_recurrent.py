"""Every recurrent unit against its equations, written out step by step in `reference.units`."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any, get_args

import pytest
import torch
from agreement import assert_same, plainly, scramble
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton_checks import triton_on_the_cpu

from reference.units import build_unit
from trivd.config import ModelConfig, WarpPadding
from trivd.models.recurrent import TSRU, ConvGRU, ConvLSTM, DynamicConvLSTM, KTrajGRU, RecurrentUnit
from trivd.models.spectral_norm import SpectralNorm

# name -> how to build the unit, and the settings of its plain form
UNITS: dict[str, tuple[Callable[..., RecurrentUnit], dict[str, Any]]] = {
    "conv_gru": (ConvGRU, {"unit": "conv_gru"}),
    "conv_lstm": (ConvLSTM, {"unit": "conv_lstm"}),
    "dynamic_conv_lstm": (DynamicConvLSTM, {"unit": "dynamic_conv_lstm"}),
    "k_traj_gru-1": (partial(KTrajGRU, links=1), {"unit": "k_traj_gru", "links": 1}),
    "k_traj_gru-2": (partial(KTrajGRU, links=2), {"unit": "k_traj_gru", "links": 2}),
}
for warping, flow, gate in product(("factorized", "pixelwise"), "cps", (False, True)):
    kind = f"{'p' if warping == 'pixelwise' else ''}tsru_{flow}"
    UNITS[f"{kind}{'-read_gate' if gate else ''}"] = (
        partial(TSRU, flow=flow, warping=warping, read_gate=gate),
        {"unit": kind, "read_gate": gate},
    )
WARPING = [name for name in UNITS if "tsru" in name or "traj" in name]


def inputs(steps: int, batch: int, read: int, hidden: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """x and the first state."""
    x = torch.randn(steps, batch, read, height, width, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(batch, hidden, height, width, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", UNITS)
@given(data=st.data())
@settings(max_examples=4)
def test_unit_is_its_equations(name: str, data: st.DataObject) -> None:
    """Values, warping weights, and gradients w.r.t. inputs, first state and every parameter."""
    build, kind = UNITS[name]
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 9999), "seed"))
    hidden = draw(st.sampled_from([2, 4]), "hidden channels")
    read = draw(st.sampled_from([hidden // 2, hidden, 3 * hidden // 2] if "dynamic" in name else [2, 3, 5]), "inputs")
    options = {
        "kernel_size": draw(st.sampled_from([1, 3, 5]), "kernel size"),
        "activation": draw(st.sampled_from(["relu", "tanh"]), "rho"),
    }
    if name in WARPING:
        options["warp_size"] = draw(st.sampled_from([3, 5]), "warp size")
        if not name.startswith("p"):
            options["warp_kernels"] = draw(st.none() | st.integers(1, 30), "kernels")
        options["warp_hidden"] = draw(st.sampled_from([(0.5, 0.5), (0.25, 1.5)]), "sizes of f")
        options["warp_padding"] = draw(st.sampled_from(get_args(WarpPadding)), "border")
    steps, batch = draw(st.integers(1, 3), "steps"), draw(st.integers(1, 3), "batch")
    height, width = draw(st.integers(2, 6), "height"), draw(st.integers(2, 6), "width")

    unit = scramble(build(read, hidden, **options))
    described = options | {"warp_size": (options["warp_size"],)} if name in WARPING else options
    plain = build_unit(ModelConfig(**kind, **described), read, hidden, 8)
    x, initial = inputs(steps, batch, read, hidden, height, width)
    states, weights = unit(x, initial, return_weights=True)
    assert (weights is not None) == (name in WARPING)
    if weights is None:
        assert_same([states], [plainly(plain, unit)(x, initial)], [x, initial, *unit.parameters()])
        return
    thetas: list[Tensor] = []
    plain.f.register_forward_hook(lambda f, inputs, theta: thetas.append(theta))
    expected = plainly(plain, unit)(x, initial)
    assert weights.shape == (steps, batch, kind.get("links", 1), options["warp_size"] ** 2, height, width)
    assert_same([states, weights], [expected, torch.stack(thetas)], [x, initial, *unit.parameters()])


@pytest.mark.parametrize("name", UNITS)
def test_what_a_gpu_fuses_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its convolutions are filled up with zeros too."""
    others = {
        "tsru_c": {"warp_padding": "replicate", "warp_kernels": 4},
        "ptsru_c": {"warp_padding": "replicate"},
        "k_traj_gru-2": {"warp_kernels": 11},
    }
    options: dict[str, Any] = others.get(name, {})
    unit = scramble(UNITS[name][0](4, 4, **options))
    x, initial = inputs(2, 1, 4, 4, 2, 3)
    sources = [x, initial, *unit.parameters()]
    direction = torch.randn_like(x)
    results = []
    for fused in (False, True):
        with triton_on_the_cpu(monkeypatch) if fused else nullcontext():
            states = unit(x, initial)
            results.append([states.detach(), *torch.autograd.grad((states * direction).sum(), sources)])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["ptsru_p", "k_traj_gru-2"])
def test_weights_that_are_kept_are_the_same_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = scramble(UNITS[name][0](4, 4))
    x, initial = inputs(1, 1, 4, 4, 2, 3)
    expected = unit(x, initial, return_weights=True)
    with triton_on_the_cpu(monkeypatch), torch.no_grad():
        torch.testing.assert_close(unit(x, initial, return_weights=True), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", UNITS)
def test_repeated_input_may_be_expanded(name: str) -> None:
    """G's first stage reads the same features at every step: a stride of 0 gives the same result, gradients too."""
    unit = scramble(UNITS[name][0](4, 4))
    _, initial = inputs(1, 2, 4, 4, 5, 6)
    once = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    expanded, copied = once.expand(3, *once.shape), torch.stack([once] * 3)
    assert expanded.stride(0) == 0 != copied.stride(0)
    assert_same([unit(expanded, initial)], [unit(copied, initial)], [once, initial, *unit.parameters()])


@pytest.mark.parametrize("name", UNITS)
def test_layout_in_memory_does_not_matter(name: str) -> None:
    unit = scramble(UNITS[name][0](4, 4))
    x, initial = inputs(2, 2, 4, 4, 5, 6)
    moved = x.permute(1, 0, 3, 4, 2).contiguous().permute(1, 0, 4, 2, 3)  # (B, T, H, W, C) in memory
    last = initial.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(unit(moved, last), unit(x, initial), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", UNITS)
def test_states_do_not_depend_on_later_inputs(name: str) -> None:
    unit = scramble(UNITS[name][0](4, 4))
    x, initial = inputs(4, 2, 4, 4, 5, 5)
    torch.testing.assert_close(unit(x, initial)[:2], unit(x[:2], initial), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", UNITS)
def test_bfloat16_autocast_agrees_with_float32(name: str) -> None:
    unit = scramble(UNITS[name][0](8, 8), torch.float32)
    x, initial = (tensor.detach().float() for tensor in inputs(3, 2, 8, 8, 8, 8))
    exact = unit(x, initial)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = unit(x, initial)
    assert rounded.dtype == torch.bfloat16
    error = (rounded.float() - exact).norm() / exact.norm()
    assert 0 < error < 0.02  # 8 bits of mantissa round to within 0.4 %, several times over


@pytest.mark.parametrize("name", UNITS)
def test_one_power_iteration_per_training_pass(name: str) -> None:
    """Weights are normalised once for all time steps, not once per step."""
    unit = scramble(UNITS[name][0](4, 4))
    x, initial = inputs(3, 1, 4, 4, 4, 4)
    expected = {}
    for path, layer in unit.named_modules():
        if isinstance(layer, SpectralNorm):
            matrix = layer.weight.flatten(1)
            right = matrix.T @ layer.left
            left = matrix @ right
            expected[path] = left / left.norm()
    unit.train()
    unit(x, initial)
    layers = dict(unit.named_modules())
    for path, left in expected.items():
        torch.testing.assert_close(layers[path].left, left)


@pytest.mark.parametrize("name", ["conv_gru", "tsru_p"])
def test_a_compiled_unit_has_all_gradients(name: str) -> None:
    unit = scramble(UNITS[name][0](4, 4))
    x, initial = inputs(2, 2, 4, 4, 5, 6)
    compiled = torch.compile(unit, backend="aot_eager")
    assert_same([compiled(x, initial)], [unit(x, initial)], [x, initial, *unit.parameters()])


def test_a_unit_is_usable_on_its_own() -> None:
    unit = TSRU(3, 6)
    states = unit(torch.randn(4, 2, 3, 8, 9), torch.zeros(2, 6, 8, 9))
    assert isinstance(states, torch.Tensor)
    assert states.shape == (4, 2, 6, 8, 9)


def test_dynamic_kernels_need_a_multiple_of_the_hidden_channels() -> None:
    with pytest.raises(ValueError, match="input_channels 5"):
        DynamicConvLSTM(5, 4)
