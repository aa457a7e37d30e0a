"""All comparisons by name and scale."""

from research.comparison import Comparison, Scale
from research.paper import PAPER
from research.small import SMALL
from trivd.runtime.errors import TrivdError

# In the order of the paper, then those of ours alone.
NAMES = (*PAPER, *(name for name in SMALL if name not in PAPER))
SCALES: dict[Scale, dict[str, Comparison]] = {"paper": PAPER, "small": SMALL}


def find(name: str, scale: Scale | None, data: str | None) -> Comparison:
    """A comparison by its name.

    Args:
        name: one of `NAMES`.
        scale: None takes the only one, or the paper's if data are named, else the small one, which needs none.
        data: data set that the user names.

    Raises:
        TrivdError: there is no such comparison, or not at that scale.
    """
    there = {own: comparisons[name] for own, comparisons in SCALES.items() if name in comparisons}
    if not there:
        raise TrivdError(f"There is no comparison {name}; choose one of {', '.join(NAMES)}.")
    if scale is None:
        scale = next(iter(there)) if len(there) == 1 else "small" if data is None else "paper"
    if scale not in there:
        raise TrivdError(f"The comparison {name} has no scale {scale}; give --scale {next(iter(there))}.")
    return there[scale]
