"""Predictions in memory beside the true clips, as both data set and forecaster of an evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivd.data.clips import Clip, FixedClips
from trivd.data.splits import Split
from trivd.evaluation.metrics.frame_scores import RANGE_TOLERANCE, check_size
from trivd.evaluation.scorer import Clips
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_float, to_uint8

Array = NDArray[Any] | Tensor
ValueRange = tuple[float, float]  # the values of black and white


class ArrayPredictions(FixedClips):
    """True clips, and one or more predictions of each: a `ClipDataset` of the truth and a `Forecaster` at once.

    Args:
        predictions: of each clip, (N, T, ...), or several samples, (N, S, T, ...); see `trivd.evaluate`.
        truth: (N, T, ...).
        given: C, the first frames of the truth that were given.
        value_range: of floats.

    Raises:
        TrivdError: shapes, types or values are others.
    """

    split: Split = "test"
    classes: tuple[str, ...] = ()
    fps: float | None = None

    def __init__(self, predictions: Array, truth: Array, given: int, value_range: ValueRange | None) -> None:
        self._truth = _Videos.of("truth", truth, (5,), value_range)
        self._predictions = _Videos.of("predictions", predictions, (5, 6), value_range)
        self.given = given
        clips, frames, *size = self._truth.shape
        if given >= frames:
            raise TrivdError(f"The truth has {frames} frames, so conditioning_frames {given} leaves none to score.")
        check_size(*size[:2])
        if len(self._predictions.shape) == 5:
            self._predictions = self._predictions.with_one_sample()
        predicted_clips, self.samples, predicted, *predicted_size = self._predictions.shape
        if predicted_clips != clips:
            raise TrivdError(f"There are {predicted_clips} predictions but {clips} true clips; give one of each.")
        if predicted not in (frames, frames - given):
            raise TrivdError(
                f"Predictions have {predicted} frames; give the truth's {frames}, or the {frames - given} that follow "
                f"the {given} given ones."
            )
        if predicted_size != size:
            raise TrivdError(f"Predictions are {predicted_size} (height, width, channels) but the truth is {size}.")
        self._predicted = frames - given
        self.summary = [f"{clips} clips in memory, {frames} frames; {self.samples} predictions each"]

    def __len__(self) -> int:
        return self._truth.shape[0]

    def evaluation_clip(self, index: int) -> Clip:
        return Clip(self._truth.pixels(index), 0)

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`."""

    def futures(self, clips: Clips, samples: int, run: int) -> Iterator[Tensor]:
        """The first `samples` predictions of each clip; see `Forecaster.futures`."""
        for sample in range(samples):
            videos = [self._predictions.frames(number, sample)[-self._predicted :] for number in clips.numbers]
            yield torch.stack(videos).to(clips.truth.device)


@dataclass(frozen=True)
class _Videos:
    """Videos in an array of any of the forms that are taken."""

    array: Tensor  # (N, [S,] T, H, W, C), maybe a view of another order
    value_range: ValueRange | None  # None: uint8

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @classmethod
    def of(cls, name: str, array: Array, dimensions: tuple[int, ...], value_range: ValueRange | None) -> "_Videos":
        """Check an array.

        Raises:
            TrivdError: its shape, type or values are others.
        """
        if not isinstance(array, Tensor):
            array = _tensor(name, array)
        array = array.detach()
        kind = str(array.dtype).removeprefix("torch.")
        if not (array.dtype == torch.uint8 or array.is_floating_point()):
            raise TrivdError(f"The {name} must be uint8 from 0 to 255, or floats with a value_range, not {kind}.")
        if array.dim() not in dimensions or 0 in array.shape:
            wanted = "(N, T, H, W, C)" + (" or, with samples, (N, S, T, H, W, C)" if 6 in dimensions else "")
            raise TrivdError(f"The {name} must be {wanted}, or with C before H, not {tuple(array.shape)}.")
        if array.shape[-1] not in (1, 3):  # frames are wider than 3 pixels, so that this is not in doubt
            array = array.movedim(-3, -1)
        if array.shape[-1] not in (1, 3):
            raise TrivdError(f"The {name} must have 1 or 3 channels, last or before height, not {tuple(array.shape)}.")
        if array.dtype == torch.uint8:
            return cls(array, None)
        if value_range is None or not value_range[0] < value_range[1]:
            raise TrivdError(
                f"The {name} are {kind}, whose range cannot be guessed; give value_range, the values of black and "
                "white: (-1, 1), (0, 1) or (0, 255)."
            )
        low, high = (float(value) for value in array.aminmax())
        tolerance = RANGE_TOLERANCE * (value_range[1] - value_range[0]) / 2
        if not (low >= value_range[0] - tolerance and high <= value_range[1] + tolerance):  # also true of NaN
            raise TrivdError(f"The {name} span [{low:.3g}, {high:.3g}], beyond value_range {value_range}.")
        return cls(array, value_range)

    def with_one_sample(self) -> "_Videos":
        return _Videos(self.array[:, None], self.value_range)

    def frames(self, *index: int) -> Tensor:
        """One video, float32 (T, C, H, W) in [-1, 1]."""
        video = self.array[index].cpu()
        if self.value_range is None:
            return to_float(video)
        black, white = self.value_range
        return ((video.float() - black) * (2 / (white - black)) - 1).movedim(-1, -3).contiguous()

    def pixels(self, *index: int) -> NDArray[np.uint8]:
        """One video, uint8 (T, H, W, C); floats are rounded."""
        if self.value_range is None:
            return np.ascontiguousarray(self.array[index].cpu().numpy())
        return to_uint8(self.frames(*index))


def _tensor(name: str, array: Any) -> Tensor:
    """Any array, in this machine's order of bytes.

    Raises:
        TrivdError: it is none, or of numbers that torch does not have.
    """
    try:
        numbers = np.asarray(array)
        numbers = np.require(numbers, numbers.dtype.newbyteorder("="), ("C", "W"))
        if numbers.dtype.kind in "buif":
            return torch.from_numpy(numbers)
    except (TypeError, ValueError):  # of lists of arrays of several shapes, of numbers of 128 bits
        pass
    raise TrivdError(
        f"The {name} must be one array or tensor of frames, uint8 or floats, not {type(array).__name__}; stack videos "
        "of one length and size."
    )
