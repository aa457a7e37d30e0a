"""FVD as a torchmetrics metric: the same as from all features at once, in any precision and on two processes."""

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.metrics.fvd import FrechetVideoDistance
from trivd.evaluation.networks.features import Features, check_clips
from trivd.runtime.errors import TrivdError


class SmallNetwork(nn.Module):
    """Six features of a clip from its mean frame; fixed weights."""

    distance = "FVD (small)"
    inception = "IS (small)"
    about = "a network of the tests"
    shortest = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, video: Tensor) -> Features:
        check_clips(video, self.shortest)
        embedding = (video.double() / 255).mean(dim=1).flatten(1) @ self.weight.double()  # alike in every batch
        return Features(embedding, embedding)


def clips(count: int, seed: int) -> Tensor:
    """(count, 3, 4, 4, 3) of uint8; the brighter, the higher the seed."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(10 * seed, 256, (count, 3, 4, 4, 3), generator=rng, dtype=torch.uint8)


REAL, GENERATED = clips(31, 0), clips(23, 1)


def expected() -> float:
    network = SmallNetwork()
    return frechet_distance(network(REAL).embedding, network(GENERATED).embedding)


def updated() -> FrechetVideoDistance:
    metric = FrechetVideoDistance(SmallNetwork())
    for batch in REAL.split(10):
        metric.update(batch, real=True)
    for batch in GENERATED.split(10):
        metric.update(batch, real=False)
    return metric


@pytest.mark.parametrize("real", ["fake", "", None, 1, torch.tensor(True)])
def test_a_kind_that_is_neither_true_nor_false_is_refused(real: Any) -> None:
    metric = FrechetVideoDistance(SmallNetwork())
    with pytest.raises(TrivdError, match="must be True for real clips or False for generated ones"):
        metric.update(REAL, real=real)
    assert int(metric.real_count) == int(metric.generated_count) == 0


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
    metric.update(clips(5, 2), real=False)  # the network has kept its precision, too
    reference = updated()
    reference.update(clips(5, 2), real=False)
    assert metric.compute().item() == reference.compute().item()
    assert metric.real_factor.dtype == metric.generated_mean.dtype == torch.float64


def test_the_device_of_the_states_follows() -> None:
    metric = updated().to("meta")
    assert metric.real_factor.device == metric.network.weight.device == torch.device("meta")


def test_training_mode_does_not_reach_the_network() -> None:
    metric = FrechetVideoDistance(SmallNetwork())
    nn.ModuleList([metric]).train()
    assert not metric.network.training


@pytest.mark.parametrize("keep", [True, False])
def test_real_clips_may_outlast_a_reset(keep: bool) -> None:
    metric = updated()
    metric.reset(reset_real_features=not keep)
    metric.update(GENERATED, real=False)
    if keep:
        assert metric.compute().item() == pytest.approx(expected(), rel=1e-9)
    else:
        with pytest.raises(TrivdError, match="but one has 0"):
            metric.compute()


def test_forward_is_refused_and_changes_nothing() -> None:
    metric = updated()
    with pytest.raises(TrivdError, match="call update"):
        metric(REAL, real=True)
    assert metric.compute().item() == pytest.approx(expected(), rel=1e-9)


def test_a_copy_goes_its_own_way() -> None:
    metric = updated()
    copy = pickle.loads(pickle.dumps(metric))
    copy.update(clips(9, 3), real=False)
    assert metric.compute().item() == pytest.approx(expected(), rel=1e-9)
    assert copy.compute().item() != metric.compute().item()


def score_a_share(rank: int, folder: Path) -> None:
    """One of two processes: real clips are shared unevenly, all generated ones are the first's."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2, timeout=timedelta(seconds=600)
    )
    try:
        metric = FrechetVideoDistance(SmallNetwork())
        metric.update(REAL[:4] if rank else REAL[4:], real=True)
        if rank == 0:
            metric.update(GENERATED[:9], real=False)
            metric.update(GENERATED[9:], real=False)
        synchronised = metric.compute().item()
        metric.update(clips(8, 4 + rank), real=False)  # the processes' own states are back
        (folder / str(rank)).write_bytes(pickle.dumps((synchronised, metric.compute().item())))
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_give_the_distance_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(score_a_share, (tmp_path,), nprocs=2, start_method="forkserver")
    single = updated()
    first = single.compute().item()
    single.update(clips(8, 4), real=False)
    single.update(clips(8, 5), real=False)
    for rank in range(2):
        results = pickle.loads((tmp_path / str(rank)).read_bytes())
        assert results == pytest.approx((first, single.compute().item()), rel=1e-9)
