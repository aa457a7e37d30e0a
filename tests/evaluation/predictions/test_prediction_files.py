"""Anybody's predictions: the same scores as computed from the arrays, and no number where files do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trivd.config import EvaluationConfig
from trivd.evaluation.evaluate import HeldOut, evaluate
from trivd.evaluation.metrics.frame_scores import psnr, ssim
from trivd.evaluation.outcome import Evaluation
from trivd.evaluation.predictions.subject import PredictionFiles
from trivd.evaluation.subjects import Subject
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_float

Videos = NDArray[np.uint8]
CLIPS, FRAMES, GIVEN = 4, 6, 2


def videos(seed: int, frames: int = FRAMES, size: int = 16) -> Videos:
    return np.random.default_rng(seed).integers(256, size=(CLIPS, frames, size, size, 3), dtype=np.uint8)


def write(folder: Path, clips: Videos, samples: int | None = None) -> Path:
    """One array per clip, or a folder of arrays per clip."""
    for number, clip in enumerate(clips):
        if samples is None:
            path = folder / f"clip-{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, clip)
            continue
        for sample in range(samples):
            path = folder / f"clip-{number}" / f"sample-{sample}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.roll(clip, sample, axis=1))
    return folder


def score(files: PredictionFiles, settings: EvaluationConfig, report: Path) -> Evaluation:
    subject = Subject(files, "another model", files.given)
    held_out = HeldOut(files, "truth", 1)
    return evaluate(subject, held_out, settings, None, device=torch.device("cpu"), report=report)


def test_scores_are_those_of_the_arrays(tmp_path: Path) -> None:
    truth, predicted = videos(0), videos(1)
    files = PredictionFiles(write(tmp_path / "p", predicted, samples=3), write(tmp_path / "t", truth), GIVEN)
    assert (len(files), files.samples) == (CLIPS, 3)
    settings = EvaluationConfig(clips=9, best_of_clips=9, samples=3, batch_size=3)
    evaluation = score(files, settings, tmp_path / "report.json")
    true = to_float(truth[:, GIVEN:])
    samples = [to_float(np.roll(predicted, sample, axis=2)[:, GIVEN:]) for sample in range(3)]
    for name, title, measure in (("psnr", "PSNR [dB]", psnr), ("ssim", "SSIM", ssim)):
        each = torch.stack([measure(sample, true) for sample in samples])  # (samples, B, T)
        best = each[each.mean(dim=2).argmax(dim=0), range(CLIPS)]
        assert evaluation.curves[name]["best of 3"] == pytest.approx(best.mean(dim=0).tolist(), rel=1e-4)
        assert evaluation.figure(f"{title}, one sample").model.mean == pytest.approx(float(each.mean()), rel=1e-4)
    copy = to_float(truth[:, [GIVEN - 1] * (FRAMES - GIVEN)])
    assert evaluation.curves["psnr"]["copy the last frame"] == pytest.approx(psnr(copy, true).mean(dim=0).tolist())
    assert "another model" in str(evaluation.protocol)
    assert "standing statistics" not in str(evaluation.protocol)


def test_predictions_may_leave_out_the_given_frames(tmp_path: Path) -> None:
    truth, predicted = write(tmp_path / "t", videos(0)), videos(1)
    whole = PredictionFiles(write(tmp_path / "whole", predicted), truth, GIVEN)
    part = PredictionFiles(write(tmp_path / "part", predicted[:, GIVEN:]), truth, GIVEN)
    settings = EvaluationConfig(clips=4, best_of_clips=4, samples=1)
    first, second = (
        score(files, settings, tmp_path / f"{name}.json").curves for name, files in (("whole", whole), ("part", part))
    )
    assert first == second


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    truth = write(tmp_path / "t", videos(0))

    settings = EvaluationConfig(clips=4, best_of_clips=4, samples=1)

    def refuse(message: str, predictions: Path, given: int = GIVEN) -> None:
        with pytest.raises(TrivdError, match=message):
            score(PredictionFiles(predictions, truth, given), settings, tmp_path / "report.json")

    (tmp_path / "none").mkdir()
    refuse("no videos", tmp_path / "none")
    refuse("is not a folder", tmp_path / "missing")
    refuse(r"t has no clip-9 \(1 of 5 names", write_one_more(tmp_path / "more"))
    refuse("has 5 frames; a prediction has the truth's 6, or the 4", write(tmp_path / "frames", videos(1, frames=5)))
    refuse("is 12 x 12 pixels but the truth 16 x 16", write(tmp_path / "size", videos(1, size=12)))
    refuse("leaves none to score", write(tmp_path / "given", videos(1)), given=6)
    floats = write(tmp_path / "floats", videos(1))
    np.save(floats / "clip-1.npy", videos(1)[1] / 255)
    refuse(r"clip-1\.npy cannot be used as a video", floats)
    short = write(tmp_path / "short", videos(1))  # the last one alone: all are looked at before any is scored
    np.save(short / "clip-3.npy", videos(1, frames=5)[3])
    refuse(r"clip-3\.npy has 5 frames", short)
    twice = write(tmp_path / "twice", videos(1))
    np.savez(twice / "clip-0.npz", videos(1)[0])
    refuse(r"holds clip-0\.npy and clip-0\.npz", twice)
    np.save(tmp_path / "t" / "clip-1.npy", videos(0, frames=5)[1])
    refuse(r"clip-0\.npy has 6 frames but .*clip-1\.npy 5; give --cut", write(tmp_path / "fine", videos(1)))
    np.save(tmp_path / "t" / "clip-1.npy", videos(0, size=12)[1])
    refuse(r"clip-0\.npy is 16 x 16 pixels but .*clip-1\.npy 12 x 12; give --resolution", tmp_path / "fine")


def write_one_more(folder: Path) -> Path:
    write(folder, videos(1))
    np.save(folder / "clip-9.npy", videos(1)[0])
    return folder
