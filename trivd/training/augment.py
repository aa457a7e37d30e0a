"""Differentiable augmentation of what discriminators see (DiffAugment, Zhao et al. 2020).

Formulae and ranges are those of the authors' code. Each clip has one draw for all its frames, the given ones included,
so that nothing moves or flickers which did not before.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.config import Augmentation
from trivd.ops.crop import crop
from trivd.runtime.distributed import rank_rows, world_size

SHIFT = 8  # the longest shift is a side / 8
HOLE = 2  # the hole of a cutout is a side / 2

# Of each kind, in the order of their application, tensors (B,) of a number for each clip:
# translation: rows and columns, int64, from 0 (longest shift down or right) to twice the longest shift;
# colour: brightness, saturation and contrast, float32 in [0, 1); cutout: the hole's centre, row and column, int64.
Draws = dict[Augmentation, tuple[Tensor, ...]]


def draw_augmentations(
    kinds: Sequence[Augmentation], count: int, side: int, rng: torch.Generator, copies: int
) -> Draws:
    """Random numbers on the CPU for clips of this process, as they are drawn for the global batch; see `rank_rows`.

    Args:
        kinds: of augmentation; without any, nothing is drawn.
        count: clips, with all copies.
        side: height and width of what is seen, in pixels.
        rng: on the CPU.
        copies: number of copies of the batch.
    """
    everywhere = (count * world_size(),)

    def whole(end: int) -> Tensor:
        return rank_rows(torch.randint(end, everywhere, generator=rng, device="cpu"), copies)

    def uniform() -> Tensor:
        return rank_rows(torch.rand(everywhere, generator=rng, device="cpu", dtype=torch.float32), copies)

    draw: dict[Augmentation, Callable[[], tuple[Tensor, ...]]] = {
        "translation": lambda: (whole(2 * (side // SHIFT) + 1), whole(2 * (side // SHIFT) + 1)),
        "colour": lambda: (uniform(), uniform(), uniform()),
        "cutout": lambda: (whole(side + 1 - side // HOLE % 2), whole(side + 1 - side // HOLE % 2)),
    }
    return {kind: draw[kind]() for kind in kinds}


def augment(seen: Tensor, draws: Draws) -> Tensor:
    """What discriminators see, (B, K, C, H, W) in [-1, 1], augmented; differentiable.

    Args:
        seen: of real or drawn clips.
        draws: of `draw_augmentations`, on the device of the clips.
    """
    for kind, numbers in draws.items():
        seen = _KINDS[kind](seen, *numbers)
    return seen


def _translate(seen: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Shifted by whole pixels, with zeros outside."""
    margins = [side // SHIFT for side in seen.shape[-1:-3:-1]]
    padded = F.pad(seen, [margin for margin in margins for _ in range(2)])
    return crop(padded, rows, columns, *seen.shape[-2:])


def _colour(seen: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Brightness, saturation where there are colours, and contrast about the mean of the whole clip."""
    brightness, saturation, contrast = (values.view(-1, 1, 1, 1, 1) for values in (brightness, saturation, contrast))
    seen = seen + (brightness - 0.5)
    if seen.shape[2] > 1:
        grey = seen.mean(dim=2, keepdim=True)
        seen = (seen - grey) * (2 * saturation) + grey
    mean = seen.mean(dim=(1, 2, 3, 4), keepdim=True)
    return (seen - mean) * (contrast + 0.5) + mean


def _cut_out(seen: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """With zeros in a hole, whose centre may lie at the border."""

    def within(centres: Tensor, side: int) -> Tensor:
        size = side // HOLE
        distances = torch.arange(side, device=centres.device) - (centres - size // 2)[:, None]
        return (distances >= 0) & (distances < size)

    height, width = seen.shape[-2:]
    hole = within(rows, height)[:, None, None, :, None] & within(columns, width)[:, None, None, None, :]
    return seen.masked_fill(hole, 0)


_KINDS: dict[Augmentation, Callable[..., Tensor]] = {
    "translation": _translate,
    "colour": _colour,
    "cutout": _cut_out,
}
