"""The paper's protocols on small copies of their data sets: Figure 5 on BAIR, and UCF-101 for a model of other data."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from record_files import trajectory_features, write_bair
from run_checks import Command
from skimage.metrics import structural_similarity
from video_files import write_video

from trivd.config import Config, DataConfig, EvaluationConfig, to_dict
from trivd.data.clips import open_clips
from trivd.evaluation.scorer import clip_latents
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.models.generator import Generator
from trivd.models.pretrained import save_generator

FEW = ("--features", "none", "--standing-batches", "1", "--standing-batch-size", "2")
TINY = {"resolution": 64, "latent_dim": 16}  # torch draws the same noise at once and in parts of 16 numbers


@pytest.fixture
def evaluate(trivd_command: Command) -> Command:
    """Runs `trivd evaluate`."""
    return partial(trivd_command, "evaluate")


def saved(folder: Path, generator: Generator) -> Path:
    """A model's folder, trained on data that are not there any more."""
    config = to_dict(Config(model=generator.config))
    save_generator(generator, folder, {"data": "gone", "step": 1, "config": config})
    return folder


def test_bair_gives_the_curves_of_figure_5(
    evaluate: Command, make_generator: Callable[..., Generator], tmp_path: Path
) -> None:
    """SSIM by frame of the continuation whose SSIM, averaged over its frames, is the best of l (C.1, SAVP)."""
    generator = make_generator(**TINY, conditioning_frames=1, predicted_frames=15)
    for parameter in generator.parameters():  # away from a start at which z hardly matters
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    model = saved(tmp_path / "model", generator)
    tests = [5]
    data = write_bair(tmp_path, {"train/traj_0_to_1.tfrecords": [1, 2], "test/traj_0_to_0.tfrecords": tests}, frames=18)
    status, out, err = evaluate(model, data, "--protocol", "bair", *FEW, "--samples", "11")
    assert (status, err) == (0, "")
    values = json.loads((model / "report.json").read_text())
    assert (values["protocol"]["split"], values["protocol"]["best_of_clips"]) == ("test", 1)
    assert "Table 4, O; Figure 5" in out.replace("\n", " ")

    settings = EvaluationConfig(standing_batches=1, standing_batch_size=2)
    train = open_clips(data, "train", DataConfig(), generator.config)
    refresh_standing_statistics(generator, train, settings, torch.float32)
    best: dict[int, list[list[float]]] = {10: [], 11: []}
    for number, seed in enumerate(tests):
        frames = trajectory_features(seed, 18)[1]["image_aux1"][:16] / 127.5 - 1
        video = torch.from_numpy(frames).float().permute(0, 3, 1, 2)
        z = clip_latents(number, 11, 16, 0, None)
        with torch.no_grad():
            futures = generator(video[None, :1].expand(11, -1, -1, -1, -1), z).video
        scores = np.array([[similarity(f, t) for f, t in zip(future, video[1:], strict=True)] for future in futures])
        for count, curves in best.items():
            among = scores[:count]
            curves.append(list(among[among.mean(axis=1).argmax()]))
    curves_by_name = values["curves"]["ssim"]
    assert set(curves_by_name) == {
        "copy the last frame", "one sample", "mean of 11 samples", "best of 10", "best of 11"
    }  # fmt: skip
    for count in (10, 11):
        np.testing.assert_allclose(curves_by_name[f"best of {count}"], np.mean(best[count], axis=0), atol=2e-3)


def similarity(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """The SSIM of two frames (3, H, W) in [-1, 1] by scikit-image."""
    first, second = ((frame.double().numpy() + 1) / 2 for frame in (prediction, truth))
    return float(
        structural_similarity(
            first, second, channel_axis=0, data_range=1, gaussian_weights=True, use_sample_covariance=False
        )
    )


def write_ucf101(root: Path, *parts: str) -> Path:
    """Two videos for each list, of which those of `parts` are there."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("1 A\n")
    for number, part in enumerate(("train", "test")):
        names = [f"v_A_g0{number}_c0{clip}.avi" for clip in (1, 2)]
        (lists / f"{part}list01.txt").write_text("".join(f"A/{name}\n" for name in names))
        rng = np.random.default_rng(number)
        for name in names if part in parts else ():
            write_video(root / "UCF-101" / "A" / name, rng.integers(256, size=(16, 64, 64, 3), dtype=np.uint8))
    return root


def test_a_model_of_other_data_by_the_protocol_of_ucf101(
    evaluate: Command, make_generator: Callable[..., Generator], tmp_path: Path
) -> None:
    """C.2: models trained on Kinetics-600. The training videos of UCF-101 may not be there."""
    model = saved(tmp_path / "model", make_generator(**TINY, conditioning_frames=5, predicted_frames=11))
    whole, tested = write_ucf101(tmp_path / "ucf", "train", "test"), write_ucf101(tmp_path / "tested", "test")
    words = ("--protocol", "ucf101", *FEW, "--runs", "2", "--samples", "1")
    status, out, err = evaluate(model, whole, *words)
    assert (status, err) == (0, "")
    assert "ucf by protocol ucf101, test split" in out
    assert "; 2 runs from seed 0" in out
    assert "standing statistics 1 x 2;" in out
    status, _, err = evaluate(model, tested, *words)
    assert status == 2
    assert "Standing statistics need training clips, here or in --standing-data." in err.replace("\n", " ")
    status, out, _ = evaluate(model, tested, *words, "--standing-data", "moving-digits")
    assert status == 0
    assert "tested by protocol ucf101, test split" in out
    assert "standing statistics 1 x 2 of training clips of moving-digits" in out
