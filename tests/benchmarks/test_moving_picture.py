"""The README's moving picture: every clip is where it belongs, and models without data are left out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from picture_checks import places
from PIL import Image

import trivd
from benchmarks.scripts import moving_picture
from benchmarks.scripts.moving_picture import BETWEEN, HELD, columns, draw_examples, together
from trivd.models import pretrained
from trivd.runtime.errors import TrivdError


def test_columns_show_the_first_held_out_clips_their_samples_and_motion(trained_run: Path) -> None:
    predictor = trivd.load(trained_run, device="cpu")
    examples = draw_examples(predictor, "moving-digits", 2)
    given, size = predictor.config.conditioning_frames, predictor.config.resolution
    (truth, truths), (sample, samples), (motion, motions) = columns(examples)
    assert (truth, sample, motion) == ("truth", "sample", "motion")
    for number, example in enumerate(examples):
        rows = slice(number * (size + BETWEEN), number * (size + BETWEEN) + size)
        assert np.array_equal(truths[:, rows], example.clip)
        future = predictor.predict(example.clip[:given])[0]
        assert np.array_equal(samples[:, rows], np.concatenate([example.clip[:given], future]))
        assert (motions[:given, rows] == 255).all()


def test_the_shorter_model_waits_for_the_longer() -> None:
    short, long = np.full((3, 8, 8, 3), 7, np.uint8), np.full((5, 8, 8, 3), 9, np.uint8)
    short[-1] = 8
    video = together([short, long])
    assert len(video) == 5 + HELD
    assert len(places(video[-1], short[-1], 1)) == len(places(video[-1], long[-1], 1)) == 1


def test_models_without_data_are_left_out(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained_run / "best", tmp_path / "bundled" / "mine")
    monkeypatch.setattr(pretrained, "BUNDLED", tmp_path / "bundled")
    out = tmp_path / "models.gif"
    with pytest.raises(TrivdError, match="name some by --data"):
        moving_picture.main(out, data={"mine": str(tmp_path / "nowhere")})
    assert "mine is left out: " in capsys.readouterr().out
    moving_picture.main(out, clips=1, width=32)
    with Image.open(out) as picture:
        assert getattr(picture, "n_frames", 1) == 5 + HELD
