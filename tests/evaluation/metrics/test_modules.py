"""Scores as torchmetrics metrics: plain formulas over all clips, whatever the batches, types and surroundings."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from stand_ins import Means
from torch import Tensor, nn
from torchmetrics import MetricCollection

from trivd import metrics
from trivd.evaluation.metrics.inception import inception_score
from trivd.metrics import EndPointError, FramePSNR, FrameSSIM, MotionMagnitude, SampleDiversity, Sharpness
from trivd.metrics import VideoInceptionScore as InceptionScore
from trivd.runtime.errors import TrivdError

Score = Callable[[Tensor, Tensor], float]


def random_pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def skimage_psnr(frame: Tensor, truth: Tensor) -> float:
    return float(peak_signal_noise_ratio(truth.numpy(), frame.numpy(), data_range=255))


def skimage_ssim(frame: Tensor, truth: Tensor) -> float:
    return float(
        structural_similarity(
            truth.movedim(0, -1).numpy().astype(float),
            frame.movedim(0, -1).numpy().astype(float),
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def plain_best_of(score: Score, samples: Tensor, truth: Tensor) -> list[float]:
    """The scores by frame of each clip's best sample, averaged over clips; frame by frame."""
    curves = []
    for clip, true in zip(samples.unbind(1), truth, strict=True):
        scored = [[score(*frames) for frames in zip(sample, true, strict=True)] for sample in clip]
        curves.append(max(scored, key=math.fsum))
    return torch.tensor(curves).double().mean(dim=0).tolist()


@given(
    clips=st.integers(1, 4),
    samples=st.integers(1, 3),
    frames=st.integers(1, 3),
    channels=st.sampled_from((1, 3)),
    batch=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_frame_scores_are_scikit_images(
    clips: int, samples: int, frames: int, channels: int, batch: int, seed: int
) -> None:
    truth = random_pixels(clips, frames, channels, 12, 13, seed=seed)
    drawn = random_pixels(samples, clips, frames, channels, 12, 13, seed=seed + 100) // 2 + truth // 2
    for metric, score in ((FramePSNR(), skimage_psnr), (FrameSSIM(), skimage_ssim)):
        for first in range(0, clips, batch):
            metric.update(drawn[:, first : first + batch], truth[first : first + batch])
        assert metric.compute().reshape(-1).tolist() == pytest.approx(
            plain_best_of(score, drawn, truth), rel=1e-4, abs=1e-5
        )


def test_samples_may_come_one_by_one() -> None:
    truth, samples = random_pixels(2, 3, 3, 12, 12), random_pixels(4, 2, 3, 3, 12, 12, seed=1)
    together, single = FramePSNR(), FramePSNR()
    together.update(samples, truth)
    single.update(iter(samples), truth)
    assert torch.equal(together.compute(), single.compute())
    one = FramePSNR()
    one.update(samples[0], truth)
    assert one.compute().mean() < together.compute().mean()


def test_sharpness_motion_and_diversity_are_plain_formulas() -> None:
    video, last = random_pixels(5, 3, 3, 8, 9), random_pixels(5, 3, 8, 9, seed=1)
    samples = random_pixels(3, 5, 3, 3, 8, 9, seed=2)
    sharp, motion, diversity = Sharpness(), MotionMagnitude(), SampleDiversity()
    for part in (slice(0, 3), slice(3, 5)):
        sharp.update(video[part])
        motion.update(video[part], last[part])
        diversity.update(samples[:, part])
    luma = (torch.cat([last[:, None], video], dim=1).double() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(
        2
    )
    across, down = (luma[:, 1:, :-1, 1:] - luma[:, 1:, :-1, :-1], luma[:, 1:, 1:, :-1] - luma[:, 1:, :-1, :-1])
    torch.testing.assert_close(sharp.compute(), (across**2 + down**2).sqrt().mean(dim=(0, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close(motion.compute(), luma.diff(dim=1).abs().mean(dim=(0, 2, 3)), rtol=1e-5, atol=0)
    pairs = [(samples[i].double() - samples[j].double()) ** 2 for i in range(3) for j in range(i)]
    plain = torch.stack(pairs).mean(dim=(0, 3, 4, 5)).sqrt().mean(dim=0)
    torch.testing.assert_close(diversity.compute(), plain, rtol=1e-5, atol=0)


def test_end_point_errors_are_plain_distances() -> None:
    rng = torch.Generator().manual_seed(0)
    flow, truth = torch.randn(2, 5, 3, 2, 6, 7, generator=rng)
    visible = torch.rand(5, 3, 6, 7, generator=rng) > 0.3
    metric = EndPointError()
    for part in (slice(0, 2), slice(2, 5)):
        metric.update(flow[part], truth[part], visible[part])
    distances = torch.hypot(*(flow - truth).unbind(2))
    plain = [distances[clip][visible[clip]].mean() for clip in range(5)]
    assert metric.compute().item() == pytest.approx(float(torch.stack(plain).mean()), rel=1e-6)
    with pytest.raises(TrivdError, match="no visible pixel"):
        metric.update(flow, truth, torch.zeros_like(visible))
    with pytest.raises(TrivdError, match="Flows must both be"):
        metric.update(flow, truth, visible[:, 1:])


def test_the_inception_score_is_that_of_all_logits_at_once() -> None:
    video = random_pixels(9, 2, 3, 5, 5) // 64
    metric = InceptionScore(Means())
    for batch in video.split(4):
        metric.update(batch)
    expected, _ = inception_score(Means()(video.movedim(2, -1)).logits, 1)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-9)


def test_floats_of_any_precision_and_conversions_of_the_metric_keep_the_scores() -> None:
    truth, video = random_pixels(3, 2, 3, 12, 12) // 32 * 32, random_pixels(3, 2, 3, 12, 12, seed=1) // 32 * 32
    plain = FrameSSIM()
    plain.update(video, truth)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        metric = FrameSSIM()
        nn.ModuleList([metric]).half().to("cpu", torch.bfloat16)
        metric.update((video / 127.5 - 1).to(dtype), truth)
        torch.testing.assert_close(metric.compute(), plain.compute(), rtol=2e-3, atol=2e-3)
        assert metric.total.dtype == torch.float64
    assert plain.to("meta").total.device == torch.device("meta")


def test_a_collection_takes_all_at_once() -> None:
    truth, video = random_pixels(4, 3, 3, 12, 12), random_pixels(4, 3, 3, 12, 12, seed=1)
    collection = MetricCollection(
        {"fvd": metrics.FrechetVideoDistance(Means()), "psnr": FramePSNR(), "ssim": FrameSSIM(), "sharp": Sharpness()}
    )
    collection.update(prediction=video, truth=truth)
    values = collection.compute()
    assert {name: value.shape for name, value in values.items()} == {
        "fvd": (),
        "psnr": (3,),
        "ssim": (3,),
        "sharp": (3,),
    }
    collection.reset()
    with pytest.raises(TrivdError, match="has seen no clip yet"):
        collection["psnr"].compute()
    batch = FramePSNR()(video, truth)  # forward: the score of a batch
    torch.testing.assert_close(batch, values["psnr"])


def test_wrong_clips_are_named() -> None:
    video = random_pixels(2, 3, 3, 12, 12)
    metric = FramePSNR()
    metric.update(video, video)
    with pytest.raises(TrivdError, match="takes clips of one length, but 2 frames came after 3"):
        metric.update(video[:, :2], video[:, :2])
    with pytest.raises(TrivdError, match="must both be"):
        metric.update(video[:, :2], video)
    with pytest.raises(TrivdError, match="The truth span"):
        metric.update(video, video.float())
    with pytest.raises(TrivdError, match="at least 2 samples"):
        SampleDiversity().update(video)
    with pytest.raises(TrivdError, match="no sample"):
        metric.update([], video)
