"""The request for a prediction: the number of futures, their length, and the draws of z."""

import math
import numbers
import operator
import secrets
from dataclasses import dataclass

from trivd.config import ModelConfig
from trivd.runtime.errors import TrivdError

SEED_BITS = 63  # of a seed that is drawn


@dataclass(frozen=True)
class Sampling:
    """The futures to draw of a clip; numbers may be of any whole-number type."""

    samples: int = 1  # how many futures
    truncation: float | None = None  # of z: 0.8 is moderate (D.1), 0 draws the one future of z = 0, None all of N(0, I)
    seed: int | None = 0  # of z; None draws other futures each time
    frames: int | None = None  # of each future; None: the model's T. Longer ones continue from their own last C frames
    label: int = 0  # class, for models with classes

    def resolved(self, model: ModelConfig) -> tuple[int, int, int, int]:
        """Samples, frames, seed and label as plain numbers that `model` can take, none of them None.

        Raises:
            TrivdError: a value is of another type, or out of range.
        """
        samples, label = _whole("samples", self.samples), _whole("label", self.label)
        frames = model.predicted_frames if self.frames is None else _whole("frames", self.frames)
        seed = secrets.randbits(SEED_BITS) if self.seed is None else _whole("seed", self.seed)
        if samples < 1 or frames < 1:
            raise TrivdError(f"Cannot draw {samples} samples of {frames} frames; both must be at least 1.")
        truncation = self.truncation
        if truncation is not None and not (isinstance(truncation, numbers.Real) and 0 <= truncation < math.inf):
            raise TrivdError(f"Truncation is {truncation!r}; it must be a number of at least 0, or None for none.")
        if seed < 0:
            raise TrivdError(f"Seed is {seed}; it must not be negative.")
        if not 0 <= label < max(1, model.classes):
            raise TrivdError(f"Class {label} is unknown: the model has {model.classes} classes.")
        return samples, frames, seed, label


def _whole(name: str, value: int) -> int:
    """An argument as a plain int; raises TrivdError if it is no whole number."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise TrivdError(f"{name} is {value!r}; it must be a whole number.") from error
