"""Frame scores against scikit-image, and the streaming best-of-l against a plain loop."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lpips_weights import made_up
from skimage import metrics
from torch import Tensor

from trivd.evaluation.metrics.frame_scores import BestOf, psnr, ssim
from trivd.evaluation.networks.lpips import Lpips
from trivd.runtime.errors import TrivdError


def clips(channels: int = 3, seed: int = 0, size: tuple[int, int] = (32, 32)) -> tuple[Tensor, Tensor]:
    """Truth and a noisy prediction of it, (2, 4, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(2, 4, channels, *size, generator=generator) * 2 - 1
    noise = torch.randn(truth.shape, generator=generator)
    return (truth + 0.3 * noise).clamp(-1, 1), truth


@settings(max_examples=20, deadline=None)
@given(channels=st.sampled_from([1, 3]), size=st.tuples(*[st.integers(11, 70)] * 2), seed=st.integers(0, 2**31))
def test_scores_equal_scikit_image(channels: int, size: tuple[int, int], seed: int) -> None:
    prediction, truth = clips(channels, seed, size)
    similarity, ratio = ssim(prediction, truth), psnr(prediction, truth)
    assert similarity.shape == ratio.shape == (2, 4)
    for b in range(2):
        for t in range(4):
            frame, other = ((video[b, t].double().numpy() + 1) / 2 for video in (prediction, truth))  # as in [0, 1]
            expected = metrics.structural_similarity(
                frame, other, channel_axis=0, data_range=1, gaussian_weights=True, use_sample_covariance=False
            )
            assert similarity[b, t].item() == pytest.approx(expected, abs=1e-5)
            assert ratio[b, t].item() == pytest.approx(metrics.peak_signal_noise_ratio(other, frame, data_range=1))


def test_perfect_frames_score_finitely() -> None:
    _, truth = clips()
    torch.testing.assert_close(psnr(truth, truth), torch.full((2, 4), 100.0))
    torch.testing.assert_close(ssim(truth, truth), torch.ones(2, 4))


def test_half_precision_predictions_are_scored() -> None:
    prediction, truth = clips()
    torch.testing.assert_close(ssim(prediction.bfloat16(), truth), ssim(prediction, truth), atol=1e-2, rtol=0)


@pytest.mark.parametrize("wrong", [127.5, float("nan")])
@pytest.mark.parametrize("score", [psnr, ssim])
def test_values_out_of_range_are_refused(score: Callable[[Tensor, Tensor], Tensor], wrong: float) -> None:
    prediction, truth = clips()
    with pytest.raises(TrivdError, match=r"Predictions span .* need values in \[-1, 1\]"):
        score(prediction * wrong, truth)


def test_shapes_must_agree() -> None:
    prediction, truth = clips()
    with pytest.raises(TrivdError, match="must both be"):
        psnr(prediction[:, :1], truth)
    with pytest.raises(TrivdError, match="at least 11 pixels"):
        ssim(prediction[..., :8, :8], truth[..., :8, :8])


def test_best_of_equals_a_plain_loop() -> None:
    _, truth = clips()
    samples = [clips(seed=seed)[0] for seed in range(5)]
    samples[3][0] = truth[0].mul(0.9)  # so that clips choose different samples
    best_of = BestOf(truth)
    for sample in samples:
        best_of.update(sample)
    scores = best_of.scores()
    for score, curves in ((psnr, scores.psnr), (ssim, scores.ssim)):
        per_sample = [score(sample, truth) for sample in samples]
        for b in range(2):
            averages = [values[b].mean().item() for values in per_sample]
            chosen = averages.index(max(averages))
            torch.testing.assert_close(curves.best[b], per_sample[chosen][b])
        torch.testing.assert_close(curves.single, sum(per_sample) / 5)
        torch.testing.assert_close(curves.mean_prediction, score(sum(samples) / 5, truth))


def test_of_distances_the_lowest_is_the_best() -> None:
    network = Lpips("alex", *made_up("alex"), "made up")
    truth = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    samples = [truth * share for share in (0.5, 0.9, 0.7)]
    best_of = BestOf(truth, network)
    for sample in samples:
        best_of.update(sample)
    curves = best_of.scores().lpips
    assert curves is not None
    torch.testing.assert_close(curves.best, network(samples[1], truth))
    torch.testing.assert_close(curves.single, sum(network(sample, truth) for sample in samples) / 3)
    torch.testing.assert_close(curves.mean_prediction, network(sum(samples) / 3, truth))


def test_one_sample_is_its_own_best() -> None:
    prediction, truth = clips()
    best_of = BestOf(truth)
    with pytest.raises(TrivdError, match="without a sample"):
        best_of.scores()
    best_of.update(prediction)
    curves = best_of.scores().ssim
    torch.testing.assert_close(curves.best, curves.single)
    torch.testing.assert_close(curves.best, curves.mean_prediction)


def test_batches_are_joined() -> None:
    prediction, truth = clips()
    parts = []
    for b in range(2):
        best_of = BestOf(truth[b : b + 1])
        best_of.update(prediction[b : b + 1])
        parts.append(best_of.scores())
    torch.testing.assert_close(torch.cat([part.psnr.best for part in parts]), psnr(prediction, truth))


def test_scores_keep_their_precision_under_autocast() -> None:
    truth = torch.rand(2, 3, 3, 24, 24) * 0.2
    prediction = (truth + 0.02 * torch.randn_like(truth)).clamp(-1, 1)
    exact = psnr(prediction, truth), ssim(prediction, truth)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close((psnr(prediction, truth), ssim(prediction, truth)), exact, rtol=0, atol=0)
