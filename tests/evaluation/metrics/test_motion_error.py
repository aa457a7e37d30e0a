"""Motion fields against the true flow of moving-digits."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from trivd.config import Config, MotionLevels, from_dict
from trivd.data.clips import DigitClips, open_clips
from trivd.data.datasets.digits import Flow
from trivd.evaluation.metrics import motion_error as motion_module
from trivd.evaluation.metrics.motion_error import MotionScore, motion_score
from trivd.evaluation.outcome import read_evaluation
from trivd.evaluation.scorer import clip_latents
from trivd.models.generator import Generator
from trivd.models.motion import motion_field
from trivd.models.pretrained import BUNDLED, load_generator
from trivd.runtime.pixels import to_float

MakeConfig = Callable[..., Config]
MakeGenerator = Callable[..., Generator]


@pytest.fixture(autouse=True)
def _few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_module, "MOTION_CLIPS", 3)


def held_out_clips(config: Config) -> DigitClips:
    clips = open_clips("moving-digits", "validation", config.data, config.model)
    assert isinstance(clips, DigitClips)
    return clips


@pytest.mark.parametrize("unit", ["conv_gru", "conv_lstm", "dynamic_conv_lstm"])
def test_units_that_do_not_warp_have_no_motion(
    tiny_config: MakeConfig, make_generator: MakeGenerator, unit: str
) -> None:
    config = tiny_config(model={"unit": unit})
    assert motion_score(make_generator(unit=unit), held_out_clips(config), config.evaluation, torch.float32) is None


@pytest.mark.parametrize(
    ("classes", "combined", "resolutions"), [(0, 2, [16, 32]), (10, 2, [16, 32]), (0, "all", [8, 16, 32]), (0, 8, [8])]
)
def test_motion_is_compared_with_the_true_flow(
    tiny_config: MakeConfig,
    make_generator: MakeGenerator,
    classes: int,
    combined: MotionLevels,
    resolutions: list[int],
) -> None:
    model = {"classes": classes, "recurrent_resolutions": (8, 16, 32)}
    config, generator = tiny_config(model=model, evaluation={"motion_levels": combined}), make_generator(**model)
    held_out = held_out_clips(config)
    measured = motion_score(generator, held_out, config.evaluation, torch.float32)
    assert measured is not None
    errors, zeros = [], []
    levels: dict[str, list[float]] = {}
    for clip in range(3):
        video, label = held_out.evaluation_clip(clip)
        z = clip_latents(clip, 1, 4, config.evaluation.seed, None)
        with torch.no_grad():
            warps = generator(to_float(video)[None, :2], z, torch.tensor([label]), return_warps=True).warps
        true = held_out.digits.flow(clip)  # of frames 1 to 4; the predicted ones are 2 to 4
        visible = torch.from_numpy(true.visible)[1:]

        def error(
            levels: MotionLevels,
            warps: dict[int, torch.Tensor] = warps,
            true: Flow = true,
            visible: torch.Tensor = visible,
        ) -> float:
            flow = motion_field(warps, 32, levels)[:, 0]  # (T, 2, H, W)
            return (flow - torch.from_numpy(true.flow)[1:]).square().sum(dim=1).sqrt()[visible].mean().item()

        errors.append(error(combined))
        for level in (8, 16, 32):
            levels.setdefault(str(level), []).append(error((level,)))
        length = torch.from_numpy(true.flow)[1:].square().sum(dim=1).sqrt()
        zeros.append(length[visible].mean().item())
    assert measured.model == pytest.approx(sum(errors) / 3, rel=1e-4)
    assert measured.clips == 3
    assert measured.zero_motion == pytest.approx(sum(zeros) / 3, rel=1e-4)
    assert measured.combined == resolutions
    assert measured.levels == {level: pytest.approx(sum(values) / 3, rel=1e-4) for level, values in levels.items()}


def test_a_better_level_is_named() -> None:
    score = MotionScore(2.25, 1.5, 64, {"16": 1.5, "32": 1.75, "64": 0.75}, [32, 64])
    (sentence,) = score.advice
    assert sentence == (
        "The motion field of level 64 alone is nearer to the true flow than that of levels 32 + 64 "
        "(0.75 px instead of 2.25): --motion-levels 64."
    )
    assert replace(score, model=0.75, combined=[64]).advice == []
    assert MotionScore(2.25, 1.5, 64).advice == []  # as in reports of the first version


def test_the_bundled_model_shows_its_best_level() -> None:
    score = read_evaluation(BUNDLED / "moving-digits" / "report.json").motion
    _, history = load_generator(BUNDLED / "moving-digits", torch.device("cpu"))
    assert score is not None
    assert min(score.levels, key=score.levels.__getitem__) == "64"
    assert score.combined == list(from_dict(Config, history["config"]).evaluation.motion_levels) == [64]
    assert score.model == score.levels["64"] < score.zero_motion
