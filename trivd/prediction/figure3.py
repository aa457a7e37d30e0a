"""Figure 3: predictions with the motion fields of their warps below them."""

from collections.abc import Sequence

import numpy as np

from trivd.config import MotionLevels
from trivd.models.motion import NO_MOTION
from trivd.pictures.draw import PAPER, flow_legend, flow_to_color, sample_grid
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels

FULL_COLOR = 0.99  # share of the vectors that are no longer than that of full saturation; few long ones would pale all
BETWEEN = 24  # px between clips


def figure3(
    predictor: Predictor,
    clips: Sequence[Pixels],
    *,
    every: int = 2,
    levels: MotionLevels | None = None,
    seed: int = 0,
    truncation: float | None = None,
    labels: Sequence[int] | None = None,
) -> Pixels:
    """Predictions of clips as rows of frames, each with its motion field as colours below (Figure 3).

    Colours show where content goes, on one scale for all clips, which the legend names.

    Args:
        predictor: of a model whose units warp.
        clips: videos (C' + T', H, W, channels) uint8, C' >= C; the first C frames of each are given.
        every: show one frame in so many, as the paper shows one in two.
        levels: of the motion field; None: the model's own, see `Predictor.motion_levels`.
        seed: of the first clip's z; the following clips take the following numbers.
        truncation: of z.
        labels: class of each clip, for models with classes.

    Returns:
        The picture (height, width, 3).

    Raises:
        TrivdError: there is no clip, one is too short, the model does not warp, or a value is out of range.
    """
    given = predictor.config.conditioning_frames
    levels = predictor.motion_levels if levels is None else levels
    if levels is None:
        raise TrivdError(NO_MOTION)
    predicted = predictor.config.predicted_frames
    if not clips or not 1 <= every <= predicted:
        raise TrivdError(
            f"Cannot show {len(clips)} clips and one frame in {every}; give a clip, and one frame in 1 to {predicted}."
        )
    videos, flows = [], []
    for number, (clip, label) in enumerate(zip(clips, labels or [0] * len(clips), strict=True)):
        past = predictor.fit(clip[:given])
        futures = predictor.draw(past, Sampling(1, truncation, seed + number, label=label), levels)
        assert futures.motion is not None
        videos.append(np.concatenate([past, futures.video[0]]))
        flows.append(-futures.motion[:, 0])  # (T, 2, H, W), forwards
    full = float(np.quantile([flow.norm(dim=1).numpy() for flow in flows], FULL_COLOR))
    parts: list[Pixels] = []
    for video, flow in zip(videos, flows, strict=True):
        nothing = np.full((given, *video.shape[1:3], 3), PAPER, np.uint8)
        motion = np.concatenate([nothing, flow_to_color(flow, full)])
        picture = sample_grid([("prediction", video), ("motion", motion)], given, every=every)
        parts += [picture, np.full((BETWEEN, picture.shape[1], 3), PAPER, np.uint8)]
    return np.concatenate([*parts, flow_legend(parts[0].shape[1], full)])
