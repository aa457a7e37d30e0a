"""Figure 3: its frames and colours are found in the picture, where they belong."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from picture_checks import places

from trivd.config import Config, MotionLevels, to_dict
from trivd.models.generator import Generator
from trivd.pictures.draw import flow_to_color
from trivd.prediction.figure3 import FULL_COLOR, figure3
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels

MakePredictor = Callable[..., Predictor]
RNG = np.random.default_rng(0)
CLIPS: list[Pixels] = [RNG.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8) for _ in range(2)]


@pytest.fixture
def make_predictor(
    tiny_config: Callable[..., Config], make_generator: Callable[..., Generator]
) -> Callable[..., Predictor]:
    def make(**model: object) -> Predictor:
        model = {"conditioning_frames": 3, "predicted_frames": 6, "recurrent_resolutions": (8, 16)} | model
        history = {"data": "", "step": 0, "config": to_dict(tiny_config(model=model))}
        predictor = Predictor(make_generator(**model), history)
        predictor.dtype = torch.float32
        return predictor

    return make


@pytest.mark.parametrize(
    ("every", "shown", "levels", "resolutions"),
    [(2, [0, 2, 4, 6, 8], None, (8, 16)), (3, [2, 5, 8], 1, (16,)), (1, range(9), "all", (8, 16))],
)
def test_frames_and_their_motion_stand_below_each_other(
    make_predictor: MakePredictor, every: int, shown: list[int], levels: MotionLevels | None, resolutions: tuple[int]
) -> None:
    predictor = make_predictor()
    picture = figure3(predictor, CLIPS, every=every, levels=levels, seed=5, truncation=0.8)
    futures = [predictor.draw(clip[:3], Sampling(1, 0.8, 5 + number), resolutions) for number, clip in enumerate(CLIPS)]
    vectors = torch.stack([future.motion for future in futures if future.motion is not None])  # (2, T, 1, 2, H, W)
    full = float(np.quantile(vectors.square().sum(dim=3).sqrt().numpy(), FULL_COLOR))
    rows = []
    for clip, future, motion in zip(CLIPS, futures, vectors, strict=True):
        whole = np.concatenate([clip[:3], future.video[0]])
        found = [place for frame in shown for place in places(picture, whole[frame])]
        assert len(found) == len(shown)
        assert len({y for y, _ in found}) == 1
        assert found == sorted(found)
        colors = flow_to_color(-motion[:, 0], full)
        predicted = [frame for frame in shown if frame >= 3]
        below = [place for frame in predicted for place in places(picture, colors[frame - 3])]
        assert [x for _, x in below] == [x for _, x in found[-len(predicted) :]]
        assert {y for y, _ in below} == {found[0][0] + 2 * 32 + 4}
        rows.append(found[0][0])
    assert rows == sorted(rows)


def test_the_class_of_each_clip_is_drawn(make_predictor: MakePredictor) -> None:
    predictor = make_predictor(classes=3)
    picture = figure3(predictor, CLIPS, labels=[2, 1])
    for number, label in enumerate([2, 1]):
        (video,) = predictor.predict(CLIPS[number][:3], seed=number, label=label)
        assert len(places(picture, video[1])) == 1


def test_what_cannot_be_drawn_is_refused(make_predictor: MakePredictor) -> None:
    predictor = make_predictor()
    with pytest.raises(TrivdError, match="does not warp"):
        figure3(make_predictor(unit="conv_gru"), CLIPS)
    with pytest.raises(TrivdError, match="0 clips"):
        figure3(predictor, [])
    for every in (0, predictor.config.predicted_frames + 1):
        with pytest.raises(TrivdError, match=f"one frame in {every}"):
            figure3(predictor, CLIPS, every=every)
    with pytest.raises(TrivdError, match="recurrent units: 8, 16"):
        figure3(predictor, CLIPS, levels=(32,))
    with pytest.raises(TrivdError, match="needs 3 frames"):
        figure3(predictor, [CLIPS[0][:2]])
