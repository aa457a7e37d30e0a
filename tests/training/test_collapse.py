"""The collapse flag: raised by discriminators that always win or samples that are all alike, by nothing else."""

import io
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trivd.evaluation.scorer import spread, thumbnails
from trivd.training.budget import Budget
from trivd.training.collapse import AWAY_LASTING, FEWEST_ROWS, LASTING, WON, first_collapse, has_worsened
from trivd.training.log import TrainingLog
from trivd.training.run import Run

EVERY = LASTING // (FEWEST_ROWS - 1)


def losses(step: int, *values: float) -> dict[str, float]:
    return {"step": step} | {f"loss/discriminator/{index}": value for index, value in enumerate(values)}


@given(st.lists(st.floats(0, 4), min_size=1, max_size=40))
def test_it_takes_enough_rows_in_succession_without_an_error(worst: list[float]) -> None:
    rows = [losses(EVERY * index, value / 2, value) for index, value in enumerate(worst)]
    ends = [end for end in range(FEWEST_ROWS, len(worst) + 1) if all(v < WON for v in worst[end - FEWEST_ROWS : end])]
    found = first_collapse(rows)
    assert (found is None) == (not ends)
    if found is not None:
        assert found.step == EVERY * (ends[0] - 1)


def test_rows_that_follow_closely_must_last_too() -> None:
    rows = [losses(step, 0.0) for step in range(0, LASTING + 1, 10)]
    assert first_collapse(rows[:-1]) is None
    found = first_collapse(rows)
    assert found is not None
    assert found.step == LASTING
    assert found.reason == "no discriminator has been wrong since step 0"
    assert "training.discriminator_lr" in found.advice


@given(st.lists(st.floats(-9, 4), min_size=1, max_size=40), st.sampled_from([100, 125, 200]))
def test_a_discriminator_far_below_what_the_hinge_asks_for(outputs: list[float], every: int) -> None:
    """Told by G's loss, which is minus the mean output on fakes; another one that behaves changes nothing."""
    rows = [
        {"step": every * index, "loss/generator/crop": -value, "loss/generator/small_frames": 0.3}
        for index, value in enumerate(outputs)
    ]
    count = max(FEWEST_ROWS, 1 + -(-AWAY_LASTING // every))
    ends = [end for end in range(count, len(outputs) + 1) if all(v < -4 for v in outputs[end - count : end])]
    found = first_collapse(rows)
    assert (found is None) == (not ends)
    if found is not None:
        first = every * (ends[0] - count)
        assert found.step == every * (ends[0] - 1)
        assert found.reason == f"discriminator crop has given fakes less than -4 since step {first}, where -1 will do"
        assert found.advice.startswith("hold discriminators back by training.lecam or training.r1")


@pytest.mark.parametrize(("share", "flagged"), [(0.09, True), (0.11, False), (1.2, False)])
def test_samples_that_are_all_alike(share: float, flagged: bool) -> None:
    rows = [{"step": step, "score/train/spread": value} for step, value in ((0, 0.0), (500, share))]
    found = first_collapse(rows)
    assert (found is not None) == flagged  # at step 0 nothing is learned yet
    if found is not None:
        assert (found.step, found.reason) == (500, "samples differ between clips by 9% of what true clips do")


def test_spread_is_that_of_the_clips() -> None:
    truth = torch.rand(6, 3, 3, 32, 32)
    small = thumbnails(truth)
    assert small.shape == (6, 3, 4, 4)
    torch.testing.assert_close(small[..., 1, 2], truth[:, -1, :, 8:16, 16:24].mean(dim=(2, 3)))
    assert spread(small, small) == pytest.approx(1.0)
    assert spread(small[:1].expand(6, -1, -1, -1), small) == pytest.approx(0.0)
    assert spread(0.5 * small + 0.25, small) == pytest.approx(0.5)


def test_worsening_is_against_the_best_distance() -> None:
    def rows(*values: float) -> list[dict[str, float]]:
        return [{"step": index, "score/train/distance": value} for index, value in enumerate(values)]

    assert has_worsened(rows(9.0, 1.0, 2.1))
    assert not has_worsened(rows(9.0, 1.0, 2.0))
    assert not has_worsened([{"step": 0, "score/train/ssim": 0.5}])


def test_the_log_says_it_once_and_keeps_saying_it_in_the_line(tmp_path: Path) -> None:
    row = {"loss/discriminator/crop": 0.0, "loss/generator/crop": 1.0}
    row |= {"discriminator/crop/real": 1.0, "discriminator/crop/fake": -1.0}

    def log_from(start: int, steps: range) -> str:
        console = Console(file=io.StringIO(), width=300)
        with TrainingLog(Run(tmp_path), console, start, 5000, Budget(None, 0.0)) as log:
            for step in steps:
                log.losses(step, row, 10.0, 0.0, 60.0)
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]

    said = log_from(0, range(200, 1601, 200))
    assert (
        said.count("The training seems to have collapsed at step 1200: no discriminator has been wrong since step 200")
        == 1
    )
    assert "step 1200/5000 | crop D 0.00 G +1.00 (1.0/-1.0) | 10 images/s | collapsed at step 1200" in said
    again = log_from(1600, range(1800, 1801))  # gone on with
    assert "seems to have" not in again
    assert "collapsed at step 1200" in again
