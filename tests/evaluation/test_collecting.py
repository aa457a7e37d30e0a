"""Batches of columns: in order, and with one batch leaving a GPU while the next is computed."""

from collections.abc import Sequence

import pytest
import torch
from triton_checks import HAS_GPU

from trivd.evaluation import collecting
from trivd.evaluation.collecting import Columns, collect, measure
from trivd.evaluation.metrics.frame_scores import check_frames
from trivd.runtime.errors import TrivdError

GROUPS = [[3, 1], [4, 1], [5]]


@pytest.fixture(params=[False, True])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, list[str]]:
    """Whether columns take time to leave, and what has happened."""
    events: list[str] = []

    class Logged(collecting._Leaving):
        def __init__(self, columns: Columns, checks: Sequence[tuple[str, torch.Tensor]]) -> None:
            super().__init__(columns, checks)
            self.takes_time = request.param

        def arrived(self) -> Columns:
            columns = super().arrived()
            events.append(f"arrived {columns['number'].tolist()}")
            return columns

    monkeypatch.setattr(collecting, "_Leaving", Logged)
    return request.param, events


def test_a_gpu_computes_while_columns_leave_it(log: tuple[bool, list[str]]) -> None:
    takes_time, events = log

    def part(numbers: Sequence[int]) -> Columns:
        events.append(f"computed {numbers}")
        return {"number": torch.tensor(numbers)}

    found = [columns["number"].tolist() for columns in measure(part, GROUPS)]
    assert found == GROUPS
    computed, arrived = [f"computed {numbers}" for numbers in GROUPS], [f"arrived {numbers}" for numbers in GROUPS]
    if takes_time:
        assert events == [computed[0], computed[1], arrived[0], computed[2], arrived[1], arrived[2]]
    else:
        assert events == [event for pair in zip(computed, arrived, strict=True) for event in pair]
    assert collect(part, [3, 1, 4, 1, 5], 2)["number"].tolist() == [3, 1, 4, 1, 5]


def test_a_postponed_check_is_made_when_columns_arrive() -> None:
    fine, wrong = ("True frames", torch.tensor([-1.0, 1.0])), ("Predictions", torch.tensor([-1.5, 0.25]))
    assert collecting._Leaving({"a": torch.ones(1)}, [fine]).arrived() == {"a": torch.ones(1)}
    with pytest.raises(TrivdError, match=r"Predictions span \[-1\.5, 0\.25\]"):
        collecting._Leaving({}, [fine, wrong]).arrived()
    with pytest.raises(TrivdError, match=r"Predictions span \[nan, nan\]"):
        collecting._Leaving({}, [("Predictions", torch.full((2,), torch.nan))]).arrived()


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")]),
    ],
)
def test_frames_out_of_range_are_refused_on_every_device(device: str) -> None:
    def part(numbers: Sequence[int]) -> Columns:
        frames = torch.tensor(numbers, dtype=torch.float32, device=device)
        check_frames("Frames", frames)
        return {"frames": frames}

    assert collect(part, [0, 1, 0, 1], 2)["frames"].tolist() == [0, 1, 0, 1]
    with pytest.raises(TrivdError, match=r"Frames span \[0, 2\]"):
        collect(part, [0, 1, 0, 2, 0, 1], 2)
