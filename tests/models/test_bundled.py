"""The models that are part of trivd: found by name, small, described truly, and better than copying."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import trivd
from trivd.data.datasets.digits import MovingDigits
from trivd.evaluation.metrics.frame_scores import psnr, ssim
from trivd.evaluation.outcome import read_evaluation
from trivd.models.pretrained import bundled_folders, load_generator, weights_hash
from trivd.prediction.predictor import Predictor
from trivd.runtime.pixels import to_float

NAME = "moving-digits"
MOST_BYTES = 30_000_000


@pytest.fixture(scope="module")
def model() -> Predictor:
    return trivd.load(NAME, device="cpu")


def test_it_is_what_it_should_be(model: Predictor) -> None:
    assert (model.config.unit, model.config.resolution) == ("tsru_p", 64)
    assert model.history["config"]["discriminator"]["decomposition"] == "stronger"
    assert model.history["data"] == NAME


def test_a_folder_of_that_name_comes_first(
    model: Predictor, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained_run, tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert trivd.load(NAME, device="cpu").config != model.config


def test_it_is_better_than_copying_from_the_third_frame_on(model: Predictor) -> None:
    given, length = model.config.conditioning_frames, model.config.frames
    digits = MovingDigits(
        "validation", frames=length, stride=1, resolution=model.config.resolution, channels=3, digits=2, clips=32
    )
    clips = np.stack([digits.clip(index) for index in range(24)])
    futures = np.stack([model.predict(clip[:given], seed=index)[0] for index, clip in enumerate(clips)])
    truth, drawn = to_float(torch.from_numpy(clips))[:, given:], to_float(torch.from_numpy(futures))
    copied = to_float(torch.from_numpy(clips))[:, given - 1 : given].expand_as(truth)
    for score in (psnr, ssim):
        gain = (score(drawn, truth) - score(copied, truth)).mean(dim=0)  # by frame
        assert (gain[2:] > 0).all(), gain


@pytest.mark.parametrize("folder", bundled_folders().values(), ids=bundled_folders())
def test_every_card_says_what_the_files_say(folder: Path) -> None:
    generator, history = load_generator(folder, torch.device("cpu"))
    card, evaluation = (folder / "README.md").read_text(), read_evaluation(folder / "report.json")
    digest = weights_hash(generator)[:12]
    assert digest in card
    assert digest in evaluation.protocol.subject
    assert f"{history['step']:,} steps" in " ".join(card.split())
    for figure in evaluation.figures:
        assert figure.model.text(figure.digits) in card, figure.name
    assert (folder / "model.safetensors").stat().st_size < MOST_BYTES
