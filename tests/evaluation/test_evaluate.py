"""An evaluation says all that its figures depend on, survives its file, and measures motion against the true one."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trivd.config import Config, to_dict
from trivd.data.clips import DigitClips, open_clips
from trivd.data.loader import evaluation_batches
from trivd.evaluation import protocol as protocol_module
from trivd.evaluation.protocol import Evaluation, evaluate, motion_score, read_evaluation, weights_hash
from trivd.evaluation.scores import clip_latents, compare_with_copy
from trivd.models.generator import Generator
from trivd.motion import motion_field
from trivd.video import to_float

DATA = "moving-digits"
MakeConfig = Callable[..., Config]
MakeGenerator = Callable[..., Generator]


def splits(config: Config) -> tuple[DigitClips, DigitClips]:
    train, held_out = (open_clips(DATA, split, config.data, config.model) for split in ("train", "validation"))
    assert isinstance(train, DigitClips)
    assert isinstance(held_out, DigitClips)
    return train, held_out


def score(config: Config, generator: Generator) -> Evaluation:
    history = {"data": DATA, "step": 77, "config": to_dict(config)}
    train, held_out = splits(config)
    return evaluate(generator, history, DATA, train, held_out, config.evaluation, torch.float32, lambda clips: None)


@pytest.fixture(scope="module", autouse=True)
def few_motion_clips() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol_module, "MOTION_CLIPS", 3)
        yield


@pytest.fixture(scope="module")
def config(tiny_config: MakeConfig) -> Config:
    return tiny_config(
        evaluation={"clips": 3, "truncation": 0.8, "seed": 5}, training={"reconstruction": 30.0}, model={"links": 1}
    )


@pytest.fixture(scope="module")
def evaluation(config: Config, make_generator: MakeGenerator) -> Evaluation:
    return score(config, make_generator())


def test_the_protocol_names_what_figures_depend_on(evaluation: Evaluation, make_generator: MakeGenerator) -> None:
    line = str(evaluation.protocol)
    for part in (
        "moving-digits",
        "validation split",
        "3 clips",
        "2 frames given",
        "3 predicted and counted",
        "2 samples",
        "truncation 0.8",
        "seed 5",
        "standing statistics 2 x 2",
        f"weights {weights_hash(make_generator())[:12]}",
        "after 77 steps",
        "L1 x 30",
    ):
        assert part in line, part
    plain = dataclasses.replace(evaluation.protocol, truncation=None, reconstruction_weight=0.0)
    assert "no truncation" in str(plain)
    assert "adversarial alone" in str(plain)
    assert "truncation 0," in str(dataclasses.replace(evaluation.protocol, truncation=0))


def test_figures_are_means_over_clips(evaluation: Evaluation, config: Config, make_generator: MakeGenerator) -> None:
    generator = make_generator()
    score(config, generator)  # leaves its standing statistics behind
    batches = evaluation_batches(splits(config)[1], 3, 1)
    result = compare_with_copy(generator, batches, 2, 0.8, 5, torch.float32)
    for name, curves in (("psnr", result.model.psnr), ("ssim", result.model.ssim)):
        for kind in ("single", "best", "mean_prediction"):
            expected = [sum(column) / 3 for column in getattr(curves, kind).T.tolist()]
            assert evaluation.model[name][kind] == pytest.approx(expected, rel=1e-3, abs=1e-4)
        copies = getattr(result.copy, name).single
        assert evaluation.copy[name] == pytest.approx([sum(c) / 3 for c in copies.T.tolist()], rel=1e-4)
        assert len(evaluation.copy[name]) == 3


def test_the_same_evaluation_gives_the_same_figures(
    evaluation: Evaluation, config: Config, make_generator: MakeGenerator
) -> None:
    assert score(config, make_generator()) == evaluation


def test_standing_statistics_are_redone(config: Config, make_generator: MakeGenerator, evaluation: Evaluation) -> None:
    spoilt = make_generator()
    spoilt.output_norm.standing_mean.fill_(float("nan"))
    assert score(config, spoilt) == evaluation


@pytest.mark.parametrize("with_motion", [True, False])
def test_the_file_gives_back_the_evaluation(evaluation: Evaluation, tmp_path: Path, with_motion: bool) -> None:
    if not with_motion:
        evaluation = dataclasses.replace(evaluation, motion=None)
    evaluation.save(tmp_path / "new" / "report.json")
    assert read_evaluation(tmp_path / "new" / "report.json") == evaluation
    values = json.loads((tmp_path / "new" / "report.json").read_text())
    assert values["protocol_line"] == str(evaluation.protocol)


def test_the_hash_is_that_of_the_weights(make_generator: MakeGenerator) -> None:
    first, second = make_generator(), make_generator()
    second.output_norm.standing_mean.add_(1)  # recomputed at every evaluation, so no part of it
    assert weights_hash(first) == weights_hash(second)
    second.output.bias[0] = torch.nextafter(second.output.bias[0], torch.tensor(9.0))
    assert weights_hash(first) != weights_hash(second)


@pytest.mark.parametrize("unit", ["conv_gru", "conv_lstm", "dynamic_conv_lstm"])
def test_units_that_do_not_warp_have_no_motion(
    tiny_config: MakeConfig, make_generator: MakeGenerator, unit: str
) -> None:
    config = tiny_config(model={"unit": unit})
    assert motion_score(make_generator(unit=unit), splits(config)[1], config.evaluation, torch.float32) is None


@pytest.mark.parametrize("classes", [0, 10])
def test_motion_is_compared_with_the_true_flow(
    tiny_config: MakeConfig, make_generator: MakeGenerator, classes: int
) -> None:
    config, generator = tiny_config(model={"classes": classes}), make_generator(classes=classes)
    held_out = splits(config)[1]
    measured = motion_score(generator, held_out, config.evaluation, torch.float32)
    assert measured is not None
    errors, zeros = [], []
    for clip in range(3):
        video, label = held_out.evaluation_clip(clip)
        z = clip_latents(clip, 1, 4, config.evaluation.seed, None)
        with torch.no_grad():
            warps = generator(to_float(video)[None, :2], z, torch.tensor([label]), return_warps=True).warps
        flow = motion_field(warps, 32)[:, 0]  # (T, 2, H, W)
        true = held_out.digits.flow(clip)  # of frames 1 to 4; the predicted ones are 2 to 4
        distance = (flow - torch.from_numpy(true.flow)[1:]).square().sum(dim=1).sqrt()
        length = torch.from_numpy(true.flow)[1:].square().sum(dim=1).sqrt()
        visible = torch.from_numpy(true.visible)[1:]
        errors.append(distance[visible].mean().item())
        zeros.append(length[visible].mean().item())
    assert measured.model == pytest.approx(sum(errors) / 3, rel=1e-4)
    assert measured.zero_motion == pytest.approx(sum(zeros) / 3, rel=1e-4)
