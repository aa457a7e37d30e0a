"""`trivd benchmark warp`: the warping of Eq 11 against a copy of the features and two plain forms.

16 rows; about one minute on two CPU cores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import EAGER, ratios, take_recorded_turns
from benchmarks.suite import Case, Column, Suite
from reference.warping import warp as sliced_warp
from trivd.ops.warp import warp

TAPS = 9  # k^2
PASSES = ("forward", "forward+backward")
CALLS = 20  # in a CUDA graph


def unfold_warp(h: Tensor, weights: Tensor) -> Tensor:
    """Eq 11 with `F.unfold`, which writes out all k^2 neighbours; shapes as in `reference.warping.warp`."""
    size = round(weights.shape[1] ** 0.5)
    neighbours = F.unfold(h, size, padding=size // 2).view(*h.shape[:2], size**2, *h.shape[2:])  # (B, C, k^2, H, W)
    return (neighbours * weights.unsqueeze(1)).sum(dim=2)


def parse_shape(shape: str) -> tuple[int, int]:
    """ "384@8" -> 384 channels, 8 x 8 pixels."""
    channels, _, pixels = shape.partition("@")
    return int(channels), int(pixels)


@dataclass(frozen=True)
class Warp(Suite):
    """Settings.

    Args:
        shapes: "channels@pixels"; the paper's ch 48 model warps the first three.
        batch: samples.
        precisions: of features and weights.
    """

    name = "warp"
    title = "Warping (Eq 11), k = 3"
    columns = (
        Column("features", ("case", "shape")),
        Column("type", ("case", "precision")),
        Column("pass", ("case", "pass")),
        Column("ours [ms]", ("seconds", "ours"), 3, 1e3),
        Column("GB/s", ("bytes_per_second",), 1, 1e-9),
        Column("ours / copy", ("ratios", "ours / copy")),
        Column("unfold / ours", ("ratios", "unfold / ours")),
        Column("slices / ours", ("ratios", "slices / ours")),
        Column("ours without a graph [ms]", ("seconds", EAGER), 3, 1e3),
    )

    shapes: tuple[str, ...] = ("384@8", "384@16", "192@32", "32@32")
    batch: int = 8
    precisions: tuple[Literal["bfloat16", "float32"], ...] = ("bfloat16", "float32")
    turns: int = 30

    @classmethod
    def quick(cls) -> "Warp":
        return cls(shapes=("32@8", "32@32"), batch=2, turns=3)

    def cases(self) -> Sequence[Case]:
        return [
            {"shape": shape, "precision": precision, "pass": which}
            for shape, precision, which in product(self.shapes, self.precisions, PASSES)
        ]

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        channels, pixels = parse_shape(str(case["shape"]))
        dtype, backward = getattr(torch, str(case["precision"])), case["pass"] != PASSES[0]

        def features() -> Tensor:
            values = torch.randn(self.batch, channels, pixels, pixels, device=device).to(dtype)
            return values.contiguous(memory_format=torch.channels_last)

        h, gradient = features().requires_grad_(backward), features()
        weights = torch.randn(self.batch, TAPS, pixels, pixels, device=device).softmax(dim=1).to(dtype)
        weights.requires_grad_(backward)

        def way(form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
            if backward:
                return lambda: torch.autograd.grad(form(h, weights), (h, weights), gradient)
            return lambda: form(h, weights)

        # The least that must be read and written; the backward pass reads three tensors and writes two.
        moved = 2 * _bytes(h) + _bytes(weights)
        if backward:
            moved += 3 * _bytes(h) + 2 * _bytes(weights)
        source = h.detach()
        ways = {
            "ours": way(warp),
            "copy": (lambda: (source.clone(), gradient.clone())) if backward else source.clone,
            "unfold": way(unfold_warp),
            "slices": way(sliced_warp),
        }
        seconds = take_recorded_turns(ways, self.turns, device, CALLS)
        with torch.no_grad():
            difference = (warp(h, weights) - sliced_warp(h, weights)).abs().max()
        return {
            "seconds": seconds,
            "ratios": ratios(seconds, ("ours", "copy"), ("unfold", "ours"), ("slices", "ours")),
            "bytes_per_second": moved / seconds["ours"],
            "largest_difference": float(difference),  # between ours and slices
        }


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()
