"""Every operation of trivd.ops as an operator of PyTorch: its schema, its sizes without values, and its derivative."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from operator_cases import CASES, as_in_networks, features, image, vectors
from torch import Tensor
from torch.autograd import forward_ad
from torch.profiler import ProfilerActivity, profile

from trivd.ops import differences, gates, normalize, warp


@pytest.fixture(params=["compiled", "plain"])
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels of the CPU, or everywhere the plain form."""
    if request.param == "plain":
        monkeypatch.setattr("trivd.ops.cpu.library.kernels", dict)


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("layout", [as_in_networks, lambda value: value], ids=["innermost", "outermost"])
def test_operators_keep_pytorchs_contract(name: str, layout: Callable[[Any], Any]) -> None:
    """Schema, sizes and strides without values, and registrations, as `torch.compile` and `torch.export` need them."""
    defined, make, _ = CASES[name]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(defined.overload, tuple(map(layout, make())), test_utils=checks)


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("name", [name for name, (_, _, derivative) in CASES.items() if derivative])
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    defined, make, _ = CASES[name]
    arguments = make()
    assert torch.autograd.gradcheck(defined.overload, arguments, check_undefined_grad=name != "normalize")


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("name", [name for name, (_, _, derivative) in CASES.items() if derivative])
def test_second_derivatives_are_refused(name: str) -> None:
    defined, make, _ = CASES[name]
    arguments = make()
    sources = [value for value in arguments if isinstance(value, Tensor) and value.requires_grad]
    results = defined(*arguments)
    values = [y for y in (results if isinstance(results, list | tuple) else [results]) if y.is_floating_point()]
    total = sum(y.square().sum() for y in values)
    gradients = torch.autograd.grad(total, sources, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        sum(gradient.square().sum() for gradient in gradients).backward()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name, (_, _, derivative) in CASES.items() if derivative])
def test_forward_mode_is_refused(name: str) -> None:
    defined, make, _ = CASES[name]
    first, *rest = make()
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward mode"):
        defined(forward_ad.make_dual(first.detach(), torch.ones_like(first)), *rest)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    """The kernels would read and write beyond their memory."""
    h, weights, x, flat = image(2, 3, 5, 6), image(2, 9, 5, 6), features(), vectors(2, 4)
    calls: list[Callable[[], Any]] = [
        lambda: warp.warp(h[0], weights),
        lambda: warp.warp(h, weights[0]),
        lambda: warp.warp(h, weights[:1]),
        lambda: warp.warp(h, weights[..., :4]),
        lambda: gates.mix(h, h[:1], h),
        lambda: gates.mix(h, h, h[:, :1]),
        lambda: gates.Parts([1, 1], ["relu", "tanh"]).activate(h, None),
        lambda: gates.Parts([3], ["relu"]).activate(h, h[:1]),
        lambda: differences.pooled_differences(h, h[:1]),
        lambda: normalize.normalize(x, flat[:1], flat, (vectors(4), vectors(4)), epsilon=0, own=False),
        lambda: normalize.normalize(x[0], flat, flat, (vectors(4), vectors(4)), epsilon=0, own=False),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"shape|warp|Parts|Windows|Statistics"):
            call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("turned", [False, True], ids=["", "transposed"])
def test_statistics_and_scales_may_be_of_any_layout_and_type(
    dtype: torch.dtype, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel and the plain form agree; a network in bfloat16 has statistics of that type."""
    x = features().detach().to(dtype)
    values = [vectors(2, 4).to(torch.bfloat16), vectors(2, 4).to(torch.bfloat16), vectors(3, 4), vectors(3, 4)]
    if turned:
        values = [value.mT.contiguous().mT for value in values]
    mean, variance, *affine = values
    results = []
    for kernels in ("compiled", "plain"):
        if kernels == "plain":
            monkeypatch.setattr("trivd.ops.cpu.library.kernels", dict)
        results.append(normalize.normalize(x, mean, variance, (affine[0], affine[1]), epsilon=1e-5, own=False))
    torch.testing.assert_close(*results, rtol=2e-2, atol=2e-2)


def test_every_operator_is_checked() -> None:
    defined = {name for name in dir(torch.ops.trivd) if not name.startswith("_") and name != "name"}
    assert {f"trivd::{name}" for name in defined} <= {operator.name for operator, _, _ in CASES.values()}


def test_profiles_name_them() -> None:
    h, weights = image(1, 3, 4, 4), image(1, 9, 4, 4)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        warp.warp(h, weights).sum().backward()
    names = {event.name for event in profiler.events()}
    assert {"trivd::warp", "trivd::warp_backward"} <= names


@pytest.mark.parametrize("name", ["warp", "mix", "softmax"])
def test_compile_passes_through_them(name: str) -> None:
    """One graph without breaks, whose values and gradients are those of eager mode."""
    defined, make, _ = CASES[name]
    arguments = make()
    compiled = torch.compile(lambda *values: defined(*values).square(), fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, lambda *values: defined(*values).square()):
        value = function(*arguments)
        sources = [argument for argument in arguments if isinstance(argument, Tensor)]
        results.append([value.detach(), *torch.autograd.grad(value.sum(), sources)])
    torch.testing.assert_close(*results, rtol=0, atol=0)
