"""`trivd benchmark units`: every recurrent unit against our ConvGRU, a plainly written one and DGMR's.

60 rows; about one hour on two CPU cores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from benchmarks.costs import available_bytes
from benchmarks.dgmr import HOW_TO_GET, dgmr_conv_gru
from benchmarks.measuring import EAGER, ratios, take_recorded_turns
from benchmarks.suite import Bar, Case, Column, Row, Suite
from benchmarks.suites.warp import PASSES, parse_shape
from reference.units import build_unit as build_plain_unit
from trivd.config import FIRST_RESOLUTION, ModelConfig, Unit
from trivd.models.recurrent import build_unit
from trivd.runtime.hardware import autocast, choose_precision, dtype_name, to_channels_last
from trivd.training.plan import flops, saved_bytes

SHARE_OF_MEMORY = 0.7  # of the free memory, which a row may take
REFERENCE = "conv_gru"
Sizes = tuple[int, int, int, int]  # frames, clips, channels, pixels


@dataclass(frozen=True)
class Units(Suite):
    """Settings.

    Args:
        shapes: "channels@pixels" of input and state; the default ones are those of the paper's ch 48 model.
        units: to measure.
        frames: T.
        batch: samples.
        precision: of convolutions.
    """

    name = "units"
    title = "Recurrent units, spectral norm on, training mode"
    columns = (
        Column("unit", ("case", "unit")),
        Column("features", ("case", "shape")),
        Column("pass", ("case", "pass")),
        Column("type", ("precision",)),
        Column("ours [ms]", ("seconds", "ours"), 1, 1e3),
        Column("GFLOP", ("flops",), 1, 1e-9),
        Column("GFLOP/s", ("flops_per_second",), 0, 1e-9),
        Column("ours / our conv_gru", ("ratios", "ours / conv_gru")),
        Column("ours / plain ConvGRU", ("ratios", "ours / plain")),
        Column("ours / DGMR's ConvGRU", ("ratios", "ours / DGMR")),
        Column("ours without a graph [ms]", ("seconds", EAGER), 1, 1e3),
    )
    bar_axis = "time relative to our conv_gru"

    shapes: tuple[str, ...] = ("384@8", "384@16", "192@32")
    units: tuple[Unit, ...] = get_args(Unit)
    frames: int = 11
    batch: int = 8
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    turns: int = 3

    @classmethod
    def quick(cls) -> "Units":
        return cls(shapes=("16@8",), frames=3, batch=2, turns=2)

    def cases(self) -> Sequence[Case]:
        return [
            {"unit": unit, "shape": shape, "pass": which}
            for shape, which, unit in product(self.shapes, PASSES, self.units)
        ]

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        name, backward = str(case["unit"]), case["pass"] != PASSES[0]
        channels, pixels = parse_shape(str(case["shape"]))
        dtype = choose_precision(self.precision, device)
        inputs = self.frames, self.batch, channels, pixels
        facts: dict[str, Any] = {"precision": dtype_name(dtype), "flops": unit_flops(name, inputs, backward=backward)}
        needed, free = needed_bytes(name, inputs, backward=backward) * dtype.itemsize // 4, available_bytes(device)
        if free is not None and needed > SHARE_OF_MEMORY * free:
            return facts | {"needed_bytes": needed, "missing": {"ours": f"needs {needed / 2**30:,.0f} GiB"}}

        def way(unit: nn.Module, layout: torch.memory_format) -> Callable[[], object]:
            x = torch.randn(self.frames * self.batch, channels, pixels, pixels, device=device)
            x = x.to(dtype).contiguous(memory_format=layout).unflatten(0, (self.frames, self.batch))
            initial = torch.randn(self.batch, channels, pixels, pixels, device=device)
            initial = initial.to(dtype).contiguous(memory_format=layout)
            x.requires_grad_(backward)
            initial.requires_grad_(backward)

            def run() -> None:
                with autocast(device, dtype):
                    run_unit(unit, x, initial)

            return run

        def our(unit: str) -> Callable[[], object]:
            return way(to_channels_last(our_unit(unit, channels).to(device)), torch.channels_last)

        ways = {"ours": our(name)}
        if name != REFERENCE:
            ways[REFERENCE] = our(REFERENCE)
        ways["plain"] = way(plain_conv_gru(channels).to(device), torch.contiguous_format)
        dgmr = dgmr_conv_gru(channels)
        if dgmr is not None:
            ways["DGMR"] = way(dgmr.to(device), torch.contiguous_format)
        else:
            facts |= {"missing": {"ours / DGMR": HOW_TO_GET}}
        seconds = take_recorded_turns(ways, self.turns, device, calls=1)
        times = seconds if name != REFERENCE else seconds | {REFERENCE: seconds["ours"]}
        return facts | {
            "seconds": seconds,
            "ratios": ratios(times, *(("ours", other) for other in (REFERENCE, "plain", "DGMR"))),
            "flops_per_second": facts["flops"] / seconds["ours"],
        }

    @staticmethod
    def bars(row: Row) -> list[Bar]:
        case = row["case"]
        if "ratios" not in row or case["unit"] == REFERENCE:
            return []
        return [Bar(case["pass"], case["unit"], case["shape"], row["ratios"]["ours / conv_gru"])]


def our_unit(name: str, channels: int) -> nn.Module:
    """One of our units, in training mode."""
    return build_unit(ModelConfig(unit=name), channels, FIRST_RESOLUTION)  # type: ignore[arg-type]


def plain_conv_gru(channels: int) -> nn.Module:
    """The ConvGRU written plainly, in training mode."""
    return build_plain_unit(ModelConfig(unit="conv_gru"), channels, channels, FIRST_RESOLUTION)


def run_unit(unit: nn.Module, x: Tensor, initial: Tensor) -> None:
    """Compute the states for x (T, B, C, H, W), and all gradients where x requires one."""
    for tensor in (x, initial, *unit.parameters()):
        tensor.grad = None
    with torch.set_grad_enabled(x.requires_grad):
        states: Tensor = unit(x, initial)
    if x.requires_grad:
        states.backward(torch.ones_like(states))


def unit_flops(name: str, sizes: Sizes, *, backward: bool) -> int:
    """FLOPs of one of our units, counted on shapes alone."""
    return flops(_on_shapes(name, sizes, backward=backward))


def needed_bytes(name: str, sizes: Sizes, *, backward: bool) -> int:
    """Upper bound of the bytes of float32 activations; without a backward pass, those of a single step."""
    return saved_bytes(_on_shapes(name, sizes if backward else (1, *sizes[1:]), backward=True))


def _on_shapes(name: str, sizes: Sizes, *, backward: bool) -> Callable[[], object]:
    frames, batch, channels, pixels = sizes
    with torch.device("meta"):
        unit = our_unit(name, channels)
        x = torch.empty(frames, batch, channels, pixels, pixels, requires_grad=backward)
        initial = torch.empty(batch, channels, pixels, pixels, requires_grad=backward)
    return lambda: run_unit(unit, x, initial)
