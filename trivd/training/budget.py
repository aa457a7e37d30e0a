"""The time that a run may spend in its steps."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trivd.runtime.distributed import any_process_and_first


class Budget:
    """Time spent in steps, by the clock of rank 0; samples, scores and checkpoints between them do not count.

    Args:
        minutes: that the run may spend; None: any number.
        spent: seconds that it has spent in earlier sessions.
    """

    def __init__(self, minutes: float | None, spent: float) -> None:
        self.seconds = None if minutes is None else 60 * minutes
        self._before = spent
        self._began: float | None = None  # of the step under way
        self.share = self._share()  # of the budget, at most 1, spent before the next step, the same in all processes
        self._length = math.inf  # of the step before the last one looked at, as a share
        self.over = self.share >= 1  # whether the last step is made
        self.last = self.over  # whether the step under way is the last

    @property
    def spent(self) -> float:
        """Seconds spent so far, by the clock of this process."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    @property
    def left(self) -> float:
        """Seconds that are left; infinite without a budget."""
        return math.inf if self.seconds is None else max(0.0, self.seconds - self.spent)

    @property
    def to_save(self) -> float:
        """Seconds spent as a checkpoint has them: a run whose last step is not made has some left."""
        return self.spent if self.seconds is None or self.over else min(self.spent, math.nextafter(self.seconds, 0))

    def _share(self) -> float:
        return 0.0 if self.seconds is None else min(1.0, self.spent / self.seconds)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Within, time counts."""
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._before, self._began = self.spent, None

    def look(self, stop: bool, device: torch.device) -> bool:
        """Look at the clock before a step; all processes do so together.

        The step is the last if the budget is over when it ends, taking as long as the shorter of the two before: one
        long wait is no sign of more.

        Args:
            stop: whether this process stops here.
            device: of the networks.

        Returns:
            whether any process stops.
        """
        stops, share = any_process_and_first(stop, self._share(), device)
        length = share - self.share
        self.last = share + min(length, self._length) >= 1
        self.share, self._length = share, length
        return stops

    def end_step(self) -> None:
        """Note that the step is made. After the last one, what is left of the budget counts as spent."""
        if self.last and self.seconds is not None:
            self._before += self.left
            self.over = True
