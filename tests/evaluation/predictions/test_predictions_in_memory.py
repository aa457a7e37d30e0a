"""`trivd.evaluate` on arrays: the figures of the command on the same files, and of the metrics on the same tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lpips_weights import made_up
from numpy.typing import NDArray

import trivd
from trivd.evaluation.figures import DIVERSITY
from trivd.evaluation.networks.weights.perceptual import install, recognise_part
from trivd.evaluation.outcome import Evaluation, read_evaluation
from trivd.metrics import FramePSNR, FrameSSIM, SampleDiversity, Sharpness

N, S, T, GIVEN, SIDE = 5, 3, 7, 2, 32
FUTURE = T - GIVEN


def noise(*shape: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


TRUTH = noise(N, T, SIDE, SIDE, 3, seed=0)
NEARNESS = np.array([[0, 1, 2]], np.uint8)[..., None, None, None, None]  # to the truth, so that samples differ
SAMPLES = noise(N, S, FUTURE, SIDE, SIDE, 3, seed=1) // 8 * (4 - NEARNESS) + TRUTH[:, None, GIVEN:] // 8 * NEARNESS


def first(video: NDArray[np.uint8]) -> torch.Tensor:
    """As models take it: float32 (..., C, H, W) in [-1, 1]."""
    return torch.from_numpy(video).movedim(-1, -3) / 127.5 - 1


def evaluated(predictions: Any, truth: Any, **settings: Any) -> Evaluation:
    return trivd.evaluate(predictions, truth, conditioning_frames=GIVEN, **({"features": "moving-digits"} | settings))


def values(evaluation: Evaluation) -> dict[str, float]:
    return {figure.name: figure.model.mean for figure in evaluation.figures}


def test_figures_are_those_of_the_same_files(tmp_path: Path) -> None:
    for number in range(N):
        for folder, video in (("truth", TRUTH[number]), ("predictions", SAMPLES[number])):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"{number}.npy", video)
    in_files = evaluated(tmp_path / "predictions", str(tmp_path / "truth"))
    report = tmp_path / "report.json"
    in_memory = evaluated(SAMPLES, TRUTH, report=report)
    assert values(in_memory) == pytest.approx(values(in_files), rel=1e-6)
    assert in_memory.curves == in_files.curves
    assert read_evaluation(report) == in_memory
    assert in_memory.protocol.samples == S
    (tmp_path / "mine.json").write_text("mine")
    with pytest.raises(trivd.TrivdError, match="is not overwritten"):
        evaluated(SAMPLES, TRUTH, report=tmp_path / "mine.json")


def test_figures_are_those_of_the_metrics() -> None:
    evaluation = evaluated(SAMPLES, TRUTH, features="none", batch_size=2)
    truth, samples = first(TRUTH[:, GIVEN:]), first(SAMPLES).movedim(1, 0)
    found = values(evaluation)
    for metric, name in ((FramePSNR(), "PSNR [dB]"), (FrameSSIM(), "SSIM")):
        metric.update(samples, truth)
        assert found[f"{name}, best of {S}"] == pytest.approx(float(metric.compute().mean()), rel=1e-5)
    sharpness, diversity = Sharpness(), SampleDiversity()
    sharpness.update(samples[0])
    diversity.update(samples)
    assert found["sharpness [grey levels / pixel]"] == pytest.approx(float(sharpness.compute().mean()), rel=1e-5)
    assert found[DIVERSITY] == pytest.approx(float(diversity.compute().mean()), rel=1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        lambda video: (torch.from_numpy(video), None),
        lambda video: (torch.from_numpy(video).movedim(-1, -3), None),
        lambda video: (np.moveaxis(video, -1, -3)[..., ::-1][..., ::-1], None),
        lambda video: (first(video), (-1, 1)),
        lambda video: (first(video).double().numpy(), (-1.0, 1.0)),
        lambda video: (video.astype(np.float64) / 255, (0, 1)),
        lambda video: (video.astype(">f4"), (0, 255)),
        lambda video: (torch.from_numpy(video).half(), (0, 255)),
    ],
)
def test_every_form_gives_the_same_figures(changed: Any) -> None:
    one = np.concatenate([TRUTH[:, :GIVEN], SAMPLES[:, 0]], axis=1)  # with the given frames
    predictions, value_range = changed(one)
    truth, _ = changed(TRUTH)
    plain = evaluated(SAMPLES[:, 0], TRUTH, features="none")
    other = evaluated(predictions, truth, features="none", value_range=value_range)
    assert values(other) == pytest.approx(values(plain), rel=1e-4)


@pytest.mark.parametrize(
    ("predictions", "truth", "settings", "message"),
    [
        (SAMPLES[:4], TRUTH, {}, "There are 4 predictions but 5 true clips"),
        (SAMPLES[:, 0, 1:], TRUTH, {}, "Predictions have 4 frames; give the truth's 7, or the 5 that follow the 2"),
        (SAMPLES[..., 1:, :], TRUTH, {}, r"Predictions are \[32, 31, 3\] \(height, width, channels\) but the truth"),
        (SAMPLES, TRUTH[0], {}, r"The truth must be \(N, T, H, W, C\)"),
        (SAMPLES[0, 0], TRUTH, {}, r"The predictions must be .* or, with samples"),
        (SAMPLES, TRUTH[..., :2], {}, "must have 1 or 3 channels"),
        (SAMPLES, TRUTH.astype(np.int64), {}, "must be uint8 from 0 to 255, or floats with a value_range, not int64"),
        (SAMPLES, TRUTH / 255, {}, "are float64, whose range cannot be guessed; give value_range"),
        (SAMPLES, TRUTH / 127.5, {"value_range": (0, 1)}, r"The truth span \[0, 2\], beyond value_range \(0, 1\)"),
        (SAMPLES, TRUTH * np.nan, {"value_range": (0, 1)}, r"The truth span \[nan, nan\]"),
        (SAMPLES, TRUTH / 255, {"value_range": (1, 0)}, "give value_range"),
        (SAMPLES, [["a"]], {}, "must be one array or tensor of frames, uint8 or floats, not list"),
        (SAMPLES, [TRUTH[0], TRUTH[1, 1:]], {}, "not list; stack videos of one length and size"),
        (SAMPLES, TRUTH.astype(np.longdouble), {}, "must be one array or tensor of frames, uint8 or floats"),
        (SAMPLES, "truth", {}, "must both be folders, or both arrays"),
        (SAMPLES, TRUTH[:, :GIVEN], {}, "leaves none to score"),
        (SAMPLES[..., :9, :], TRUTH[..., :9, :], {}, "SSIM needs frames of at least 11 pixels"),
        (SAMPLES, TRUTH, {"conditioning_frames": 0}, "conditioning_frames is 0"),
        (SAMPLES[:3], TRUTH[:3], {}, "needs at least 4 clips"),
    ],
)
def test_what_does_not_fit_is_named(predictions: Any, truth: Any, settings: dict[str, Any], message: str) -> None:
    given = {"conditioning_frames": GIVEN, "features": "moving-digits"} | settings
    with pytest.raises(trivd.TrivdError, match=message):
        trivd.evaluate(predictions, truth, **given)


def test_lpips_is_left_out_where_frames_are_too_narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path))
    for tensors in made_up("alex"):
        part = recognise_part(tensors, Path(__file__))
        assert part is not None
        install(part, "made up")
    narrow = TRUTH[:4, :, :, :30]  # AlexNet sees 31 pixels
    evaluation = evaluated(narrow, narrow, features="none")
    assert [absent.name for absent in evaluation.absent] == ["LPIPS"]
    assert evaluation.protocol.lpips == ""
