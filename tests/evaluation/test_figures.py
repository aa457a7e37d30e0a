"""From columns to figures: distances, inception scores and curves are those of the columns given."""

import pytest
import torch
from stand_ins import Means

from trivd.config import EvaluationConfig
from trivd.evaluation.figures import (
    absent_figures,
    absent_lpips,
    curves,
    distribution_figures,
    frame_figures,
    sample_size_warnings,
)
from trivd.evaluation.metrics.frechet import frechet_distance


def columns(prefix: str, clips: int, seed: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}/embedding": torch.randn(clips, 3, generator=rng),
        f"{prefix}/logits": torch.randn(clips, 4, generator=rng),
        f"{prefix}/sharpness": torch.rand(clips, 2, generator=rng),
        f"{prefix}/motion": torch.rand(clips, 2, generator=rng),
    }


def test_the_truth_against_itself_is_the_best_there_is() -> None:
    truth = columns("truth", 64, 0)
    perfect = {name.replace("truth", "model"): column for name, column in truth.items()}
    figures = distribution_figures(truth | columns("copy", 64, 1), [perfect], Means(), 1)
    distance, inception, sharpness, motion = figures
    assert distance.model.mean == pytest.approx(0, abs=1e-9)
    assert distance.copy == pytest.approx(
        frechet_distance(truth["truth/embedding"], columns("copy", 64, 1)["copy/embedding"])
    )
    assert inception.model.mean == inception.truth
    assert sharpness.model.mean == sharpness.truth
    assert motion.model.mean == motion.truth == pytest.approx(float(truth["truth/motion"].mean()))


def test_frame_figures_and_curves_are_means() -> None:
    rng = torch.Generator().manual_seed(3)
    names = [
        f"{score}/{kind}" for score in ("psnr", "ssim") for kind in ("copy", "single", "mean", "best 10", "best 11")
    ]
    runs = [{name: torch.rand(5, 2, generator=rng) for name in [*names, "diversity"]} for _ in range(2)]
    for run in runs[1:]:
        run |= {name: runs[0][name] for name in ("psnr/copy", "ssim/copy")}  # needs no model, so no run differs
    by_name = {figure.name: figure for figure in frame_figures(runs, 11)}
    assert by_name["SSIM, best of 10"].model.runs == pytest.approx([float(run["ssim/best 10"].mean()) for run in runs])
    assert by_name["PSNR [dB], mean of 11 samples"].model.mean == pytest.approx(
        float(torch.stack([run["psnr/mean"] for run in runs]).mean())
    )
    assert by_name["SSIM, one sample"].copy == pytest.approx(float(runs[0]["ssim/copy"].mean()))
    singles = [columns("model", 7, seed) for seed in range(2)]
    result = curves(columns("truth", 7, 4) | columns("copy", 7, 5), singles, runs, 11)
    expected = sum(run["ssim/best 11"].mean(dim=0) for run in runs) / 2
    assert result["ssim"]["best of 11"] == pytest.approx(expected.tolist())
    assert result["motion"]["one sample"] == pytest.approx(
        torch.stack([single["model/motion"] for single in singles]).mean(dim=(0, 1)).tolist()
    )
    assert set(result["sharpness"]) == {"truth", "copy the last frame", "one sample"}


def test_one_sample_has_neither_best_nor_diversity() -> None:
    run = {f"{score}/{kind}": torch.rand(5, 2) for score in ("psnr", "ssim") for kind in ("copy", "single", "mean")}
    assert [figure.name for figure in frame_figures([run], 1)] == ["PSNR [dB], one sample", "SSIM, one sample"]


@pytest.mark.parametrize(("clips", "count"), [(2047, 1), (2048, 0)])
def test_warnings_end_at_2048_clips(clips: int, count: int) -> None:
    figures = distribution_figures(
        columns("truth", 64, 0) | columns("copy", 64, 1), [columns("model", 64, 2)], Means(), 1
    )
    assert len(sample_size_warnings(figures, Means(), clips)) == count
    assert sample_size_warnings(figures, None, clips) == []


def test_lpips_stands_where_it_was_computed() -> None:
    scores = ("psnr", "ssim", "lpips-vgg")
    run = {f"{score}/{kind}": torch.rand(5, 2) for score in scores for kind in ("copy", "single", "mean")}
    figure = {figure.name: figure for figure in frame_figures([run], 1)}["LPIPS (VGG), one sample"]
    assert figure.better == "lower"
    assert figure.model.mean == pytest.approx(float(run["lpips-vgg/single"].mean()))
    assert "lpips-vgg" in curves(columns("truth", 5, 0) | columns("copy", 5, 1), [columns("model", 5, 2)], [run], 1)
    (row,) = absent_lpips(None, EvaluationConfig(), 64)
    assert row.text.startswith("not computed: there are no weights; see")
    text = absent_lpips(None, EvaluationConfig(), 30)[0].text
    assert text.startswith("not computed: frames are too small for AlexNet; of others there are no weights; see")
    assert "fewer than 16 pixels" in absent_lpips(None, EvaluationConfig(), 15)[0].text
    assert absent_lpips(None, EvaluationConfig(lpips="none"), 64) == []


def test_figures_are_absent_only_where_they_were_wanted() -> None:
    assert [absent.name for absent in absent_figures(None, "auto")] == ["FVD", "IS"]
    assert all("trivd weights download" in absent.text for absent in absent_figures(None, "auto"))
    assert absent_figures(None, "none") == absent_figures(Means(), "auto") == []
