"""Held-out clips with their futures and motion, as rows of pictures: for pages and results."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trivd.data.clips import ClipDataset, DigitClips
from trivd.pictures.draw import flow_to_color, sample_grid
from trivd.prediction.predictor import Futures, Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.pixels import Pixels

SAMPLES = 2

Rows = list[tuple[str, Pixels]]  # label and video (T, H, W, C)


class Example(NamedTuple):
    """A held-out clip and what a model drew for it."""

    given: int  # frames
    clip: Pixels  # given and true frames (C + T, H, W, channels)
    futures: Futures  # motion None for units that do not warp
    true_flow: NDArray[np.float32] | None  # (T, 2, H, W), where it is known

    def future_rows(self) -> Rows:
        """The truth and the futures, each after the given frames."""
        given = self.clip[: self.given]
        futures = [(f"sample {i}", np.concatenate([given, f])) for i, f in enumerate(self.futures.video, start=1)]
        return [("truth", self.clip), *futures]

    def motion_rows(self) -> Rows:
        """The motion that the model saw in its first future, and the true one if it is known; predicted frames only."""
        assert self.futures.motion is not None
        rows = [("its motion", flow_to_color(-self.futures.motion[:, 0]))]
        if self.true_flow is not None:
            rows.append(("true motion", flow_to_color(-torch.from_numpy(self.true_flow))))
        return rows

    def picture(self) -> Pixels:
        """All rows below each other, frame by frame."""
        rows = self.future_rows()
        if self.futures.motion is not None:
            nothing = np.full_like(self.clip[: self.given], 255)
            rows += [(label, np.concatenate([nothing, motion])) for label, motion in self.motion_rows()]
        return sample_grid(rows, self.given)


def draw_example(predictor: Predictor, held_out: ClipDataset, index: int) -> Example:
    """Two futures of a held-out clip, for its own class if the model has classes."""
    given = predictor.config.conditioning_frames
    clip = held_out.evaluation_clip(index)
    label = clip.label if predictor.config.classes else 0
    futures = predictor.draw(clip.video[:given], Sampling(SAMPLES, label=label), predictor.motion_levels)
    true_flow = held_out.digits.flow(index).flow[given - 1 :] if isinstance(held_out, DigitClips) else None
    return Example(given, clip.video, futures, true_flow)
