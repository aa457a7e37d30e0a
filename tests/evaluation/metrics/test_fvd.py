"""FVD as a torchmetrics metric: the same as from all features at once, in any precision; scores on two processes."""

import pickle
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.metrics.fvd import FrechetVideoDistance
from trivd.evaluation.metrics.modules import FramePSNR, VideoInceptionScore
from trivd.evaluation.networks.features import Features, check_clips
from trivd.runtime.errors import TrivdError


class SmallNetwork(nn.Module):
    """Six features of a clip from its mean frame; fixed weights."""

    distance = "FVD (small)"
    inception = "IS (small)"
    about = "a network of the tests"
    shortest = 2
    fingerprint = ""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, video: Tensor) -> Features:
        check_clips(video, self.shortest)
        embedding = (video.double() / 255).mean(dim=1).flatten(1) @ self.weight.double()  # alike in every batch
        return Features(embedding, embedding)


def clips(count: int, seed: int) -> Tensor:
    """(count, 3 frames, 3 colours, 4, 4) of uint8; the brighter, the higher the seed."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(10 * seed, 256, (count, 3, 3, 4, 4), generator=rng, dtype=torch.uint8)


TRUTH, PREDICTION = clips(31, 0), clips(23, 1)


def expected() -> float:
    network = SmallNetwork()
    return frechet_distance(*(network(video.movedim(2, -1)).embedding for video in (TRUTH, PREDICTION)))


def updated() -> FrechetVideoDistance:
    metric = FrechetVideoDistance(SmallNetwork())
    for batch in TRUTH[23:].split(10):
        metric.update(None, batch)
    for prediction, truth in zip(PREDICTION.split(10), TRUTH[:23].split(10), strict=True):
        metric.update(prediction, truth)
    return metric


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_the_pixels_that_they_stand_for(dtype: torch.dtype) -> None:
    metric = FrechetVideoDistance(SmallNetwork())
    coarse = TRUTH // 16 * 16  # bfloat16 has 8 bits
    metric.update((PREDICTION // 16 * 16 / 127.5 - 1).to(dtype), coarse)
    plain = FrechetVideoDistance(SmallNetwork())
    plain.update(PREDICTION // 16 * 16, coarse)
    assert metric.compute().item() == pytest.approx(plain.compute().item(), rel=1e-9)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (TRUTH.float(), r"The prediction span \[0, 255\]"),
        (TRUTH.int(), "The prediction must be uint8, or floats in"),
        (TRUTH.movedim(2, -1), r"must be \(B, T, 1 or 3, H, W\), not \(31, 3, 4, 4, 3\)"),
        (TRUTH[0], "must be"),
        (TRUTH[:, :1], "at least 2"),
    ],
)
def test_clips_of_another_kind_are_refused(video: Tensor, message: str) -> None:
    metric = FrechetVideoDistance(SmallNetwork())
    with pytest.raises(TrivdError, match=message):
        metric.update(video, None)
    assert int(metric.prediction_count) == int(metric.truth_count) == 0


def test_batches_give_the_distance_of_all_features() -> None:
    value = updated().compute()
    assert value.dtype == torch.float64
    assert value.shape == ()
    assert value.item() == pytest.approx(expected(), rel=1e-9)


def test_conversions_keep_every_digit() -> None:
    metric = updated()
    surrounding = nn.ModuleList([metric]).half()
    surrounding.to("cpu", torch.bfloat16)
    metric.float().set_dtype(torch.float32)
    metric.update(clips(5, 2), None)  # the network has kept its precision, too
    reference = updated()
    reference.update(clips(5, 2), None)
    assert metric.compute().item() == reference.compute().item()
    assert metric.truth_factor.dtype == metric.prediction_mean.dtype == torch.float64


def test_the_device_of_the_states_follows() -> None:
    metric = updated().to("meta")
    assert metric.truth_factor.device == metric.network.weight.device == torch.device("meta")


def test_training_mode_does_not_reach_the_network() -> None:
    metric = FrechetVideoDistance(SmallNetwork())
    nn.ModuleList([metric]).train()
    assert not metric.network.training


@pytest.mark.parametrize("keep", [True, False])
def test_true_clips_may_outlast_a_reset(keep: bool) -> None:
    metric = updated()
    metric.reset_truth = not keep
    metric.reset()
    metric.update(PREDICTION, None)
    if keep:
        assert metric.compute().item() == pytest.approx(expected(), rel=1e-9)
    else:
        with pytest.raises(TrivdError, match="but one has 0"):
            metric.compute()


def test_forward_is_refused_and_changes_nothing() -> None:
    metric = updated()
    with pytest.raises(TrivdError, match="call update"):
        metric(PREDICTION, TRUTH)
    assert metric.compute().item() == pytest.approx(expected(), rel=1e-9)


def test_a_copy_goes_its_own_way() -> None:
    metric = updated()
    copy = pickle.loads(pickle.dumps(metric))
    copy.update(clips(9, 3), None)
    assert metric.compute().item() == pytest.approx(expected(), rel=1e-9)
    assert copy.compute().item() != metric.compute().item()


def score_a_share(rank: int, folder: Path) -> None:
    """One of two processes: true clips are shared unevenly, all predicted ones are the first's."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2, timeout=timedelta(seconds=600)
    )
    try:
        metric = FrechetVideoDistance(SmallNetwork())
        metric.update(None, TRUTH[:4] if rank else TRUTH[4:])
        if rank == 0:
            metric.update(PREDICTION[:9], None)
            metric.update(PREDICTION[9:], None)
        synchronised = metric.compute().item()
        metric.update(clips(8, 4 + rank), None)  # the processes' own states are back
        inception, psnr = VideoInceptionScore(SmallNetwork()), FramePSNR()
        psnr.update(*((PREDICTION[:5], TRUTH[:5]) if rank else (PREDICTION[5:], TRUTH[5:23])))
        if rank == 1:  # the other has seen no clip at all
            inception.update(PREDICTION)
        results = (synchronised, metric.compute().item(), inception.compute().item(), *psnr.compute().tolist())
        (folder / str(rank)).write_bytes(pickle.dumps(results))
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(score_a_share, (tmp_path,), nprocs=2, start_method="forkserver")
    single, inception, psnr = updated(), VideoInceptionScore(SmallNetwork()), FramePSNR()
    first = single.compute().item()
    single.update(clips(8, 4), None)
    single.update(clips(8, 5), None)
    inception.update(PREDICTION)
    psnr.update(PREDICTION, TRUTH[:23])
    expected = (first, single.compute().item(), inception.compute().item(), *psnr.compute().tolist())
    for rank in range(2):
        assert pickle.loads((tmp_path / str(rank)).read_bytes()) == pytest.approx(expected, rel=1e-9)
