"""Columns of many clips, measured batch by batch; none waits for a GPU to hand over those of the batch before."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from trivd.evaluation.metrics.frame_scores import Bounds, judge, postponed_checks

Columns = dict[str, Tensor]  # name -> (clips, ...)
Part = Callable[[Sequence[int]], Columns]  # measures some clips by their numbers


def collect(
    part: Part, numbers: Sequence[int], batch_size: int, advance: Callable[[int], None] = lambda clips: None
) -> Columns:
    """Columns of many clips, computed in batches; batches without columns are left out.

    Args:
        part: returns the columns of some clips.
        numbers: numbers of all clips.
        batch_size: clips at once.
        advance: called with the number of clips done after each batch.
    """
    parts, groups = [], batches(numbers, batch_size)
    for batch, columns in zip(groups, measure(part, groups), strict=True):
        parts.append(columns)
        advance(len(batch))
    measured = [columns for columns in parts if columns]
    return {name: torch.cat([columns[name] for columns in measured]) for name in measured[0]} if measured else {}


def measure(part: Part, groups: Sequence[Sequence[int]]) -> Iterator[Columns]:
    """The columns of each batch on the CPU, in order; a GPU computes a batch while those of the one before leave it.

    Args:
        part: returns the columns of some clips.
        groups: the numbers of each batch.

    Raises:
        TrivdError: `part` raised it, or a check of it that was postponed.
    """
    leaving: deque[_Leaving] = deque()
    for numbers in groups:
        with postponed_checks() as checks:
            columns = part(numbers)
        latest = _Leaving(columns, checks)
        leaving.append(latest)
        while len(leaving) > latest.takes_time:
            yield leaving.popleft().arrived()
    while leaving:
        yield leaving.popleft().arrived()


class _Leaving:
    """Columns of a batch on their way to the CPU."""

    def __init__(self, columns: Columns, checks: Sequence[tuple[str, Bounds]]) -> None:
        self._columns = {name: column.to("cpu", non_blocking=True) for name, column in columns.items()}
        self._names = [name for name, _ in checks]
        self._bounds = torch.stack([bounds for _, bounds in checks]).to("cpu", non_blocking=True) if checks else None
        self._events = [
            torch.cuda.current_stream(device).record_event()
            for device in {column.device for column in columns.values() if column.is_cuda}
        ]
        self.takes_time = bool(self._events)

    def arrived(self) -> Columns:
        """The columns, once they are there and the checks are passed."""
        for event in self._events:
            event.synchronize()
        for name, bounds in zip(self._names, () if self._bounds is None else self._bounds, strict=True):
            judge(name, bounds)
        return self._columns


def batches(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    """The numbers in order, in batches of `size`; the last may be smaller."""
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]
