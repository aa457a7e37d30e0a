"""The levels of a motion field: recurrent units at several resolutions, each of which warps its own state."""

from collections.abc import Collection
from typing import Literal

from trivd.config.checks import require
from trivd.config.model import FIRST_RESOLUTION

MotionLevels = Literal["all"] | int | tuple[int, ...]


def chosen_levels(wanted: MotionLevels, available: Collection[int]) -> tuple[int, ...]:
    """The resolutions that a motion field combines, coarse to fine (Figure 3).

    Args:
        wanted: "all"; a number below 8: so many of the finest, or all if there are fewer; a resolution, or several.
        available: resolutions of the model's recurrent units.

    Raises:
        TrivdError: the model has no such level.
    """
    levels = tuple(sorted(available))
    if wanted == "all":
        return levels
    if isinstance(wanted, int):
        if 1 <= wanted < FIRST_RESOLUTION:
            return levels[-wanted:]
        wanted = (wanted,)
    require(
        len(wanted) > 0 and set(wanted) <= set(levels),
        f"motion_levels is {', '.join(map(str, wanted)) or 'empty'}; choose all, how many of the finest (1, 2, ...), "
        f"or some of the resolutions at which the model has recurrent units: {', '.join(map(str, levels))}.",
    )
    return tuple(level for level in levels if level in wanted)


def level_names(levels: Collection[int]) -> str:
    """Resolutions in words, such as "levels 32 + 64"."""
    return f"level{'s' if len(levels) > 1 else ''} {' + '.join(map(str, levels))}"
