"""The inception score against torchmetrics, a plain loop over the equation, and its two extremes."""

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image.inception import InceptionScore

from trivd.evaluation.metrics.inception import inception_score
from trivd.runtime.errors import TrivdError


def plain_score(rows: list[list[float]]) -> float:
    """exp(mean KL(p(y|x) || p(y))) with p from logits, one number at a time."""
    p = []
    for row in rows:
        total = sum(math.exp(value) for value in row)
        p.append([math.exp(value) / total for value in row])
    marginal = [sum(column) / len(p) for column in zip(*p, strict=True)]
    divergence = [sum(a * math.log(a / b) for a, b in zip(row, marginal, strict=True)) for row in p]
    return math.exp(sum(divergence) / len(p))


@given(st.data())
def test_the_equation_in_a_plain_loop(data: st.DataObject) -> None:
    classes = data.draw(st.integers(1, 4))
    row = st.lists(st.floats(-20, 20), min_size=classes, max_size=classes)
    rows = data.draw(st.lists(row, min_size=1, max_size=9))
    splits = data.draw(st.integers(1, len(rows)))
    mean, deviation = inception_score(torch.tensor(rows, dtype=torch.float64), splits)
    small, larger = divmod(len(rows), splits)
    starts = [split * small + min(split, larger) for split in range(splits + 1)]  # the first are larger by one
    scores = [plain_score(rows[start:stop]) for start, stop in itertools.pairwise(starts)]
    assert mean == pytest.approx(statistics.mean(scores), rel=1e-9)
    if splits == 1:
        assert deviation is None
    else:
        assert deviation == pytest.approx(statistics.stdev(scores), rel=1e-9, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore`", "ignore:std():UserWarning")
def test_torchmetrics_agrees() -> None:
    logits = 3 * torch.randn(200, 10, dtype=torch.float64)
    metric = InceptionScore(feature=torch.nn.Identity(), splits=1)
    metric.update(logits)
    assert inception_score(logits, 1)[0] == pytest.approx(float(metric.compute()[0]), rel=1e-12)


@pytest.mark.parametrize("certainty", [1e2, 1e4])  # beyond 745, probabilities underflow
def test_certain_and_balanced_scores_the_number_of_classes(certainty: float) -> None:
    logits = certainty * torch.eye(7, 8).repeat(3, 1)  # the eighth class is never seen
    assert inception_score(logits, 3) == (pytest.approx(7), pytest.approx(0, abs=1e-9))


def test_the_same_answer_for_all_scores_one() -> None:
    assert inception_score(torch.randn(1, 5).expand(8, 5).half(), 1) == (pytest.approx(1), None)


def test_what_has_no_score_is_refused() -> None:
    logits = torch.zeros(4, 3)
    for splits in (0, 5):
        with pytest.raises(TrivdError, match=f"4 clips cannot be scored in {splits} splits"):
            inception_score(logits, splits)
    with pytest.raises(TrivdError, match="NaN"):
        inception_score(logits / 0, 1)
    with pytest.raises(TrivdError, match=r"\(N, K\), not \(4,\)"):
        inception_score(logits[:, 0], 1)
