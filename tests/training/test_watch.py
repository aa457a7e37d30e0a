"""What is watched in a training, against what it says in words."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivd.training.run import Run
from trivd.training.watch import answers, used_taps, z_sensitivity


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=20))
def test_answers_are_counted_one_by_one(outputs: list[tuple[float, float]]) -> None:
    real, fake = (torch.tensor(side, dtype=torch.float64, requires_grad=True) for side in zip(*outputs, strict=True))
    found = dict(answers(real, fake))
    assert not any(value.requires_grad for value in found.values())
    wrong = sum(r < 0 for r, _ in outputs) + sum(f > 0 for _, f in outputs)
    assert found["wrong"].item() == pytest.approx(wrong / (2 * len(outputs)))
    assert found["real"].item() == pytest.approx(sum(r for r, _ in outputs) / len(outputs), abs=1e-12)
    assert found["fake"].item() == pytest.approx(sum(f for _, f in outputs) / len(outputs), abs=1e-12)


def test_the_share_of_taps_is_that_of_the_mean_weights() -> None:
    def warps(*pixels: list[float]) -> torch.Tensor:
        return torch.tensor(pixels).T.reshape(1, 1, 1, len(pixels[0]), 1, len(pixels))

    assert used_taps(warps([1.0, 0, 0, 0])) == pytest.approx(1 / 4)
    assert used_taps(warps([0.25] * 4)) == pytest.approx(1)
    assert used_taps(warps([1.0, 0, 0, 0], [0, 1.0, 0, 0])) == pytest.approx(2 / 4)  # one each, but two in all
    p = [0.7, 0.2, 0.06, 0.04]
    assert used_taps(warps(p)) == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)) / 4)


def test_the_sensitivity_of_a_linear_map_is_its_factor() -> None:
    z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    video = 0.25 * z[:, :, :, None, None, None].expand(-1, -1, -1, 3, 2, 2)
    assert z_sensitivity((video[0], video[1]), (z[0], z[1])) == pytest.approx(0.25)
    assert z_sensitivity((video[0], video[0]), (z[0], z[1])) == 0


def test_a_run_logs_it_beside_its_scores_and_losses(trained_run: Path) -> None:
    rows = Run(trained_run).log_rows()
    scored = [row for row in rows if "score/train/psnr" in row]
    assert [row["step"] for row in scored] == [0, 4]
    for row in scored:
        assert row["watch/z_sensitivity"] > 0
        assert 1 / 9 <= row["watch/taps/8"] <= 1
    for row in rows:
        if "loss/discriminator/crop" in row:
            assert 0 <= row["discriminator/crop/wrong"] <= 1
