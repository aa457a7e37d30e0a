"""Gradients of a recursion whose weights' gradients wait for its end, in all the ways that backward may be called."""

from functools import partial

import pytest
import torch
from agreement import plainly, scramble
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reference.units import build_unit
from trivd.config import ModelConfig
from trivd.models.recurrent import TSRU, ConvGRU, KTrajGRU, RecurrentUnit
from trivd.ops.gates import Parts
from trivd.ops.unroll import Recursion

UNITS = {
    "conv_gru": (ConvGRU, ModelConfig(unit="conv_gru")),
    "k_traj_gru": (partial(KTrajGRU, links=2), ModelConfig(unit="k_traj_gru", links=2)),
    "tsru_s": (partial(TSRU, flow="s"), ModelConfig(unit="tsru_s")),
    "ptsru_p": (partial(TSRU, flow="p", warping="pixelwise"), ModelConfig(unit="ptsru_p")),
}
ALL = pytest.mark.parametrize("name", UNITS)


def prepare(name: str) -> tuple[RecurrentUnit, Tensor, Tensor]:
    """A unit of float64, four inputs and the first state."""
    unit = scramble(UNITS[name][0](3, 4))
    return unit, torch.randn(4, 2, 3, 5, 6, dtype=torch.float64), torch.randn(2, 4, 5, 6, dtype=torch.float64)


def plain(name: str, unit: RecurrentUnit, x: Tensor, state: Tensor) -> Tensor:
    return plainly(build_unit(UNITS[name][1], x.shape[2], state.shape[1], 8), unit)(x, state)


def gradients(states: Tensor, *sources: Tensor, retain: bool = False) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 2, states.numel(), dtype=states.dtype).view_as(states)
    return torch.autograd.grad((states * weight).sum(), sources, retain_graph=retain, allow_unused=True)


def assert_equal(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if e is None else e, rtol=1e-9, atol=1e-9)


@ALL
def test_only_the_weights_need_gradients(name: str) -> None:
    unit, x, state = prepare(name)
    sources = tuple(unit.parameters())
    assert_equal(gradients(unit(x, state), *sources), gradients(plain(name, unit, x, state), *sources))


@ALL
def test_each_source_alone(name: str) -> None:
    unit, x, state = prepare(name)
    x.requires_grad_()
    for source in (x, next(unit.parameters())):
        assert_equal(gradients(unit(x, state), source), gradients(plain(name, unit, x, state), source))


@ALL
def test_frozen_weights_get_none(name: str) -> None:
    unit, x, state = prepare(name)
    unit.requires_grad_(False)
    assert not unit(x, state).requires_grad
    state.requires_grad_()
    states = unit(x, state)
    assert_equal(gradients(states, state), gradients(plain(name, unit, x, state), state))
    assert all(parameter.grad is None for parameter in unit.parameters())


@ALL
@pytest.mark.parametrize("used", [slice(0, 1), slice(1, 3)])
def test_unused_states(name: str, used: slice) -> None:
    """A loss of some states, cut from the others before they are joined."""
    unit, x, state = prepare(name)
    x.requires_grad_()
    sources = x, *unit.parameters()
    recursion = Recursion(x.dtype)
    step = unit.bind(x, state, recursion, keep_weights=False)
    states, h = [], recursion.begin(state)
    for t in range(len(x)):
        h, _ = step(t, h)
        states.append(h)
    actual = gradients(torch.stack(states[used]), *sources)
    assert_equal(actual, gradients(plain(name, unit, x, state)[used], *sources))


@ALL
def test_nothing_is_kept_between_backward_passes(name: str) -> None:
    """The same graph several times, and once as far as a middle state only, which records without reaching the end."""
    unit, x, state = prepare(name)
    sources = tuple(unit.parameters())
    recursion = Recursion(x.dtype)
    step = unit.bind(x, state, recursion, keep_weights=False)
    states = [recursion.begin(state)]
    for t in range(len(x)):
        states.append(step(t, states[-1])[0])
    expected = plain(name, unit, x, state)
    torch.autograd.grad(states[4].sum(), states[2], retain_graph=True)
    assert_equal(gradients(states[2], *sources, retain=True), gradients(expected[1], *sources, retain=True))
    for _ in range(2):
        assert_equal(gradients(states[4], *sources, retain=True), gradients(expected[3], *sources, retain=True))


@ALL
def test_no_grad(name: str) -> None:
    unit, x, state = prepare(name)
    with torch.no_grad():
        states = unit(x, state)
    assert not states.requires_grad
    torch.testing.assert_close(states, unit(x, state).detach(), rtol=0, atol=0)


@ALL
@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed(name: str, reentrant: bool) -> None:
    unit, x, state = prepare(name)
    state.requires_grad_()
    results = []
    for states in (checkpoint(unit, x, state, use_reentrant=reentrant), unit(x, state)):
        unit.zero_grad()
        state.grad = None
        states.square().sum().backward()
        results.append((state.grad.clone(), *(parameter.grad.clone() for parameter in unit.parameters())))
    assert_equal(*results)


@ALL
def test_second_derivatives_are_refused(name: str) -> None:
    unit, x, state = prepare(name)
    state.requires_grad_()
    (gradient,) = torch.autograd.grad(unit(x, state).sum(), state, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("name", ["conv_gru", "ptsru_p"])  # the others have matrix products of PyTorch's own
def test_backward_within_autocast_is_as_exact(name: str) -> None:
    """As PyTorch's own convolutions: float32 stays float32."""
    unit, x, state = prepare(name)
    unit, x, state = unit.float(), x.float(), state.float()
    sources = tuple(unit.parameters())
    expected = gradients(unit(x, state), *sources)
    states = unit(x, state)
    with torch.autocast("cpu", torch.bfloat16):
        actual = gradients(states, *sources)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4 * e.abs().max().item())


@ALL
def test_bfloat16_gradients_round_as_plain_ones_do(name: str) -> None:
    """Errors of the convolutions' gradients, against those of the plain form under autocast; each alone is chance.

    Those of the features of f are left out: which of them a maximum chooses, and a ReLU lets pass, is all chance.
    """
    errors = torch.zeros(2)
    for seed in range(6):
        torch.manual_seed(seed)
        unit = UNITS[name][0](16, 16).eval()
        x, state = torch.randn(3, 2, 16, 8, 8), torch.randn(2, 16, 8, 8)
        named = unit.named_parameters()
        sources = tuple(value for path, value in named if value.dim() == 4 and "kernel_features" not in path)
        exact = gradients(unit(x, state), *sources)
        for i, run in enumerate((unit, partial(plain, name, unit))):
            with torch.autocast("cpu", torch.bfloat16):
                states = run(x, state)
            for a, e in zip(gradients(states.float(), *sources), exact, strict=True):
                assert a.dtype == torch.float32
                errors[i] += (a - e).norm() / e.norm()
    assert 0 < errors[0] < 1.3 * errors[1]


@ALL
def test_shapes_without_values(name: str) -> None:
    with torch.device("meta"):
        unit = UNITS[name][0](3, 4)
        states = unit(torch.empty(4, 2, 3, 5, 6), torch.empty(2, 4, 5, 6))
    states.sum().backward()
    assert states.shape == (4, 2, 4, 5, 6)
    assert all(parameter.grad.shape == parameter.shape for parameter in unit.parameters())


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_gradcheck(kernel_size: int) -> None:
    """A recursion of one convolution and what is given at each step."""

    def run(state: Tensor, weight: Tensor, bias: Tensor, given: Tensor) -> Tensor:
        recursion = Recursion(state.dtype)
        layer = recursion.share(weight, bias, Parts([1, 1], ["tanh", "identity"]), given)
        state = recursion.begin(state)
        for t in range(3):
            gate, value = layer(state, t)
            state = torch.cat([gate * value, state[:, :1]], dim=1)
        return state

    torch.manual_seed(0)
    shapes = (2, 2, 3, 2), (2, 2, kernel_size, kernel_size), (2,), (6, 2, 3, 2)
    assert torch.autograd.gradcheck(run, [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes])
