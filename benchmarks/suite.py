"""The interface of a suite: its settings, the cases it measures, and the columns of its table."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

Case = dict[str, str | int]  # identifies a row: names and values, which each suite chooses
# A row of the JSON file: "case", "date" and what was measured; "missing" gives the reasons for absent figures.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a suite's table.

    Args:
        heading: heading with the unit.
        path: keys that lead from the row to the value.
        digits: digits after the point; whole numbers without a factor are shown as they are.
        factor: factor from the JSON file's SI units to the unit shown.
    """

    heading: str
    path: tuple[str, ...]
    digits: int = 2
    factor: float | None = None

    def cell(self, row: Row) -> str:
        """The text for a row; without a value, the reason that the row gives, or nothing."""
        value: Any = row
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            return str(row.get("missing", {}).get(self.path[-1], ""))
        if isinstance(value, float) or self.factor is not None:
            return f"{value * (self.factor or 1.0):,.{self.digits}f}"
        return str(value)


def shown(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns that have something to show: those of CUDA graphs, for instance, are empty on a CPU."""
    return tuple(column for column in columns if any(column.cell(row) for row in rows))


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
        turns: turns that are timed, after a warm-up.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    bar_axis: ClassVar[str] = ""  # what the plot's bars measure; no plot if empty

    turns: int

    @classmethod
    @abstractmethod
    def quick(cls) -> "Suite":
        """The suite at small sizes, which only show that it runs."""

    @abstractmethod
    def cases(self) -> Sequence[Case]:
        """The cases of all rows, in the table's order."""

    @abstractmethod
    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        """Measure a case and return its figures as JSON values, with times in seconds."""

    @staticmethod
    def bars(row: Row) -> list[Bar]:
        """The bars that a row adds to the plot."""
        return []
