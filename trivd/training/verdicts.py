"""Whether the losses and gradients of a step are finite: judged on the device, read when the next step is under way."""

import math
from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from trivd.runtime.errors import TrivdError


class NonFiniteLossError(TrivdError):
    """A loss or its gradient is not finite: the run has diverged.

    Args:
        message: which, at which step.
        step: number of that step, counted from 1; no later update has changed the networks.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class _Launched(NamedTuple):
    """A step whose verdict is not known yet."""

    step: int
    names: list[str]  # of the networks, for each update
    values: Tensor  # (updates, 2): loss and gradient's length, on the CPU once `arrived`
    arrived: torch.cuda.Event | None


class Verdicts:
    """The verdicts on the updates of a training.

    The first update that is not finite, and all that follow, leave the networks as they are; see `Verdicts.failed`.

    Args:
        device: of the networks.
    """

    def __init__(self, device: torch.device) -> None:
        # As Adam's `found_inf`: 1 once an update was not finite.
        self.failed = torch.zeros((), dtype=torch.float32, device=device)
        self.lag = 0 if device.type == "cpu" else 1  # steps that are launched before a verdict is read
        self._launched: deque[_Launched] = deque()

    @property
    def pending(self) -> bool:
        """Whether the device is still at work on a step."""
        return any(step.arrived is not None and not step.arrived.query() for step in self._launched)

    def judge(self, loss: Tensor, gradients: list[Tensor]) -> Tensor:
        """Judge an update on the device, without waiting for it.

        Args:
            loss: sum of all losses.
            gradients: of the networks that are updated.

        Returns:
            loss and gradient's length, (2,).
        """
        # A gradient whose square overflows has infinite length too; it would spoil Adam's second moment.
        values = torch.stack([loss, get_total_norm(gradients)])
        finite = values.isfinite().all()
        self.failed.copy_(torch.where(finite, self.failed, 1.0))
        return values

    def launched(self, step: int, names: list[str], values: list[Tensor]) -> None:
        """Note the values of all updates of a step, which has been launched, and read those of an earlier one.

        Raises:
            NonFiniteLossError: an update of that one was not finite.
        """
        stacked, arrived = torch.stack(values), None
        if stacked.device.type == "cuda":
            stream = torch.cuda.current_stream(stacked.device)  # another device may be the current one
            stacked = torch.empty(stacked.shape, pin_memory=True).copy_(stacked, non_blocking=True)
            arrived = stream.record_event()
        self._launched.append(_Launched(step, names, stacked, arrived))
        self._read(self.lag)

    def finish(self) -> None:
        """Wait for all verdicts.

        Raises:
            NonFiniteLossError: an update was not finite.
        """
        self._read(0)

    def reset(self) -> None:
        """Forget everything: the networks are others now."""
        self.failed.zero_()
        self._launched.clear()

    def _read(self, left: int) -> None:
        """Read verdicts until so many are left."""
        while len(self._launched) > left:
            launched = self._launched.popleft()
            if launched.arrived is not None:
                launched.arrived.synchronize()
            for name, values in zip(launched.names, launched.values.tolist(), strict=True):
                for value, what in zip(values, ("loss", "gradient"), strict=True):
                    if not math.isfinite(value):
                        raise NonFiniteLossError(
                            f"The {name} {what} is {value} at step {launched.step}.", launched.step
                        )
