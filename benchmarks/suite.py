"""What a suite of benchmarks is: settings, the cases to measure, and the columns of its table."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

Case = dict[str, str | int]  # what is measured in a row, by names of its own
# A row as it stands in the JSON file: "case", "date" and what was measured. "missing" says why a figure is not there.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a suite's table.

    Args:
        heading: with the unit.
        path: keys from the row to the value.
        digits: after the point; whole numbers are shown as they are unless they have a factor.
        factor: from the JSON file's SI units to the unit shown.
    """

    heading: str
    path: tuple[str, ...]
    digits: int = 2
    factor: float | None = None

    def cell(self, row: Row) -> str:
        """The text for a row; where there is no value, the reason the row gives, or nothing."""
        value: Any = row
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            return str(row.get("missing", {}).get(self.path[-1], ""))
        if isinstance(value, float) or self.factor is not None:
            return f"{value * (self.factor or 1.0):,.{self.digits}f}"
        return str(value)


class Bar(NamedTuple):
    """A bar of a suite's plot."""

    panel: str
    label: str  # on the axis
    series: str  # in the legend
    value: float


@dataclass(frozen=True)
class Suite(ABC):
    """A suite; the fields of its dataclass are its settings.

    Args:
        turns: that are timed, after a warm-up.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    bar_axis: ClassVar[str] = ""  # what the plot's bars measure; no plot if empty

    turns: int

    @classmethod
    @abstractmethod
    def quick(cls) -> "Suite":
        """Sizes that only show that it runs."""

    @abstractmethod
    def cases(self) -> Sequence[Case]:
        """All rows, in the table's order."""

    @abstractmethod
    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        """What the row of `case` says: JSON values, times in seconds."""

    @staticmethod
    def bars(row: Row) -> list[Bar]:
        """What a row adds to the plot."""
        return []
