"""Attribution of a profiled step's time to kinds of work, and the time of its convolutions run alone."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile, record_function

from benchmarks.measuring import finisher, take_turns
from trivd.models import spectral_norm as normalization
from trivd.models.frame_norm import FrameNormReLU
from trivd.ops.operator import Operator
from trivd.training.plan import flops


class Kind(StrEnum):
    """Kinds of work."""

    FORWARD = "convolutions, forward"
    BACKWARD = "convolutions, backward"
    PRODUCTS = "matrix products"
    RECURRENT = "warping and recurrent kernels"
    NORMALISATION = "normalisation"
    OPTIMIZER = "optimizer, moving average, orthogonality"
    ELEMENTWISE = "elementwise, pooling, copies"
    REST = "the rest"  # Python, autograd and dispatch; on a GPU, all the time in which it does nothing


# Scopes that we name ourselves.
SPECTRAL_NORM, FRAME_NORM, OPTIMIZER = "trivd: spectral norm", "trivd: batch norm", "trivd: optimizer"
SCOPES = {
    SPECTRAL_NORM: Kind.NORMALISATION,
    FRAME_NORM: Kind.NORMALISATION,
    OPTIMIZER: Kind.OPTIMIZER,
    "Optimizer.zero_grad#Adam.zero_grad": Kind.OPTIMIZER,
    "aten::_foreach_lerp_": Kind.OPTIMIZER,  # the moving average's
}
# Operations of ours, by module of trivd.ops; those that only help others have none.
MODULES = {
    "trivd.ops.average": Kind.ELEMENTWISE,
    "trivd.ops.conv3d": None,  # PyTorch's own
    "trivd.ops.crop": Kind.ELEMENTWISE,
    "trivd.ops.differences": Kind.RECURRENT,
    "trivd.ops.gates": Kind.RECURRENT,
    "trivd.ops.mixed_warp": Kind.RECURRENT,
    "trivd.ops.normalize": Kind.NORMALISATION,
    "trivd.ops.operator": None,
    "trivd.ops.orthogonality": Kind.OPTIMIZER,
    "trivd.ops.pool": Kind.ELEMENTWISE,
    "trivd.ops.precision": None,
    "trivd.ops.residual": Kind.ELEMENTWISE,
    "trivd.ops.softmax": Kind.RECURRENT,
    "trivd.ops.spectral": Kind.NORMALISATION,
    "trivd.ops.unroll": Kind.RECURRENT,
    "trivd.ops.upsample": None,  # PyTorch's own convolutions
    "trivd.ops.warp": Kind.RECURRENT,
    "trivd.runtime.distributed": None,  # the exchange of scores
}
# An operator "trivd::warp_backward", or the autograd function that PyTorch generates for it.
OPERATOR = re.compile(r"(?:trivd::|GeneratedBackwardFor_trivd_)(\w+?)(?:_default)?(?:Backward)?$")
AUTOGRAD = "autograd::engine::evaluate_function"
CONVOLUTION = re.compile(r"aten::\w*conv(\dd|_|olution)")
PRODUCTS = {f"aten::{name}" for name in ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "mv", "addmv_", "dot")}
REPLAYED = {
    "aten::convolution": torch.ops.aten.convolution,
    "aten::convolution_backward": torch.ops.aten.convolution_backward,
}
TOP = 15  # operators listed
MAIN = 12  # convolutions run alone


@contextmanager
def labelled_normalisation() -> Iterator[None]:
    """Label for the profiler all normalisation of weights and features, not only its autograd functions."""
    with _labelled(normalization, "_normalize", SPECTRAL_NORM), _labelled(FrameNormReLU, "forward", FRAME_NORM):
        yield


@contextmanager
def _labelled(owner: Any, name: str, label: str) -> Iterator[None]:
    """Make every call of `owner.name` a scope of the profiler."""
    function = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        with record_function(label):
            return function(*arguments)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, function)


def processor_events(profiler: profile) -> list[FunctionEvent]:
    """The CPU's events; each also holds the kernels that it started on a GPU."""
    return [event for event in profiler.events() if event.device_type.name == "CPU"]


def scopes() -> dict[str, Kind]:
    """The kind of work inside events of these names, unless an operator inside them has its own."""
    found = dict(SCOPES)
    for function in torch.autograd.Function.__subclasses__():
        if function.__module__.startswith("trivd."):
            kind = MODULES.get(function.__module__) or Kind.ELEMENTWISE
            found |= {function.__name__: kind, f"{function.__name__}Backward": kind}
    return found


def operator_kind(name: str) -> Kind | None:
    """The kind of work of an operator of ours, that of the module which defines it; None for others."""
    operator = OPERATOR.match(name)
    return MODULES[Operator.instances[f"trivd::{operator[1]}"].module] if operator else None


def kind_of(event: FunctionEvent, within: Mapping[str, Kind]) -> Kind:
    """The kind of an event's own time, without that of the events inside it; `within` is `scopes()`."""
    names = [event.name]
    parent = event.cpu_parent
    while parent is not None:
        names.append(parent.name)
        parent = parent.cpu_parent
    scope = next((kind for name in names if (kind := within.get(name) or operator_kind(name)) is not None), None)
    if scope in (Kind.NORMALISATION, Kind.OPTIMIZER):  # their matrix products are part of them
        return scope
    product = event.name in PRODUCTS
    if CONVOLUTION.match(event.name) or (product and any(CONVOLUTION.match(name) for name in names)):
        return Kind.BACKWARD if any(name.startswith(AUTOGRAD) for name in names) else Kind.FORWARD
    if product:
        return Kind.PRODUCTS
    if scope is not None:
        return scope
    return Kind.ELEMENTWISE if event.name.startswith("aten::") else Kind.REST


def seconds_by_kind(events: Sequence[FunctionEvent], whole: float, device: torch.device) -> dict[Kind, float]:
    """The `whole` seconds of a step divided among all kinds; time that no event covers is the rest."""
    within, found = scopes(), dict.fromkeys(Kind, 0.0)
    for event in events:
        found[kind_of(event, within)] += _own_seconds(event, device)
    found[Kind.REST] += whole - sum(found.values())
    return found


def top_operators(events: Sequence[FunctionEvent], device: torch.device) -> list[dict[str, Any]]:
    """The operators and sizes with the largest own times."""
    within = scopes()
    seconds: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        key = event.name.removeprefix("aten::"), _shapes(event), kind_of(event, within)
        seconds[key].append(_own_seconds(event, device))
    top = sorted(seconds.items(), key=lambda item: -sum(item[1]))[:TOP]
    return [
        {"name": name, "shapes": shapes, "kind": kind, "count": len(each), "seconds": sum(each)}
        for (name, shapes, kind), each in top
    ]


def replay_convolutions(
    events: Sequence[FunctionEvent], device: torch.device, dtype: torch.dtype, turns: int
) -> list[dict[str, Any]]:
    """The forward and backward convolutions that take most of the step, each run alone on the same sizes."""
    groups: dict[tuple[str, str], list[FunctionEvent]] = defaultdict(list)
    for event in events:
        if event.name in REPLAYED:
            groups[event.name, f"{event.input_shapes} {event.concrete_inputs}"].append(event)
    ordered = sorted(groups.values(), key=lambda group: -sum(_seconds(event, device) for event in group))[:MAIN]
    ways = {str(i): _alone(group[0], device, dtype) for i, group in enumerate(ordered)}
    seconds = take_turns(ways, turns, finish=finisher(device))
    return [
        {
            "name": group[0].name.removeprefix("aten::"),
            "shapes": _shapes(group[0]),
            "count": len(group),
            "flops": flops(ways[i]),
            "seconds_alone": seconds[i],
            "seconds": sum(_seconds(event, device) for event in group),
        }
        for i, group in zip(ways, ordered, strict=True)
    ]


def _alone(event: FunctionEvent, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """The convolution of `event`, or its backward pass, on random values."""

    def values(shape: Sequence[int]) -> Tensor | None:
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(shape), torch.contiguous_format)
        return torch.randn(*shape, device=device).to(dtype, memory_format=layout) if shape else None  # []: no bias

    operation, tensors = REPLAYED[event.name], [values(shape) for shape in _input_shapes(event)[:3]]
    return lambda: operation(*tensors, *event.concrete_inputs[3:])


def _own_seconds(event: FunctionEvent, device: torch.device) -> float:
    return (event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total) / 1e6


def _seconds(event: FunctionEvent, device: torch.device) -> float:
    return (event.device_time_total if device.type == "cuda" else event.cpu_time_total) / 1e6


def _input_shapes(event: FunctionEvent) -> list[list[int]]:
    """The shapes of its arguments; [] for those that are not tensors."""
    shapes: Any = event.input_shapes  # annotated as something else
    return shapes


def _shapes(event: FunctionEvent) -> str:
    """The shapes of its first three tensors as text."""
    shapes = [shape for shape in _input_shapes(event) if shape and isinstance(shape[0], int)]  # no lists of tensors
    return ", ".join("x".join(map(str, shape)) for shape in shapes[:3])
