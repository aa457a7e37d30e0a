"""Functions that are recorded and replayed: the same results as when they are called, whatever goes wrong."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from stand_ins import call_directly, record_as_a_gpu
from torch import Tensor
from triton_checks import HAS_GPU

from trivd.runtime import graphs
from trivd.runtime.graphs import (
    KEPT_SIZES,
    WARM_UPS,
    Graphed,
    GraphedPerSize,
    Record,
    Replay,
    record_cuda_graph,
    recorder,
)

GPU = pytest.param(
    "cuda",
    record_cuda_graph,
    marks=[pytest.mark.cuda, pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")],
)
WAYS = pytest.mark.parametrize(("device", "record"), [("cpu", call_directly), ("cpu", record_as_a_gpu), GPU])
CALLS = WARM_UPS + 3


def sums(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x + y, (x @ y).sin()


@WAYS
def test_a_recorded_function_gives_what_it_gives(device: str, record: Record) -> None:
    graphed = Graphed(sums, record)
    for _ in range(CALLS):
        x, y = torch.randn(2, 5, 5, device=device)
        for result, expected in zip(graphed(x, y), sums(x, y), strict=True):
            assert torch.equal(result, expected)


def test_it_is_recorded_once_after_some_calls() -> None:
    recorded, called = [], itertools.count()

    def counted(function: Replay) -> Replay:
        recorded.append(next(called))
        return function

    graphed = Graphed(lambda x: (x + next(called),), counted)
    for _ in range(CALLS):
        graphed(torch.zeros(1))
    assert recorded == [WARM_UPS]


def out_of_memory(function: Replay) -> Replay:
    raise torch.OutOfMemoryError("CUDA out of memory.\nand details")


def test_one_that_cannot_be_recorded_is_called() -> None:
    graphed = Graphed(lambda x: x + 1, out_of_memory)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [graphed(torch.tensor(i)).item() for i in range(CALLS)] == list(range(1, CALLS + 1))
    (warning,) = said
    assert str(warning.message) == ("No CUDA graph could be recorded; without it all is slower. CUDA out of memory.")


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
def test_one_that_waits_for_the_gpu_is_called() -> None:
    def waiting(x: Tensor) -> Tensor:
        return x * x.sum().item()

    graphed, stream = Graphed(waiting), torch.cuda.current_stream()
    values = [torch.full((3,), float(i), device="cuda") for i in range(CALLS)]
    with pytest.warns(UserWarning, match="No CUDA graph could be recorded"):
        results = [graphed(x) for x in values]
    assert all(torch.equal(result, 3 * x * i) for i, (result, x) in enumerate(zip(results, values, strict=True)))
    assert torch.cuda.current_stream() == stream
    good = Graphed(sums)  # the failure has left nothing behind
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(CALLS):
            x, y = torch.randn(2, 5, 5, device="cuda")
            assert torch.equal(good(x, y)[0], x + y)
    del x, y, results, values, graphed, good
    kept = torch.cuda.memory_reserved()
    torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= kept


@pytest.mark.parametrize("ended", [True, False], ids=["out of memory", "invalid"])
def test_a_failed_recording_is_ended(ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that has become invalid, torch ends nothing and says only that there was an error."""
    calls: list[tuple[Any, ...]] = []

    @contextlib.contextmanager
    def recording(graph: object, **options: Any) -> Iterator[None]:
        try:
            yield
        finally:
            if not ended:
                raise RuntimeError("an earlier error")

    def end(*arguments: Any) -> None:
        if ended:
            raise RuntimeError("not recording")
        calls.append(arguments)

    def waits(x: Tensor) -> Tensor:
        if recorded:
            raise RuntimeError("the reason\nand details")
        return x + 1

    for name, function in {
        "empty_cache": lambda: None,
        "current_device": lambda: 3,
        "current_stream": lambda: "stream",
        "set_stream": lambda stream: calls.append((stream,)),
        "CUDAGraph": lambda: None,
        "graph_pool_handle": lambda: (0, 7),
        "graph": recording,
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(graphs, "_side_stream", lambda device: None)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *pool: calls.append(pool), raising=False)
    graphed, recorded = Graphed(waits), False
    for _ in range(WARM_UPS):
        graphed(torch.zeros(1))
    recorded = True
    with pytest.warns(UserWarning, match="slower. the reason$"), pytest.raises(RuntimeError, match="the reason"):
        graphed(torch.zeros(1))
    assert calls == ([("stream",)] if ended else [(3, (0, 7)), (3, (0, 7)), ("stream",)])


def test_other_errors_are_not_hidden() -> None:
    def wrong(function: Replay) -> Replay:
        raise TypeError("a mistake of ours")

    graphed = Graphed(torch.sin, wrong)
    for _ in range(WARM_UPS):
        graphed(torch.ones(1))
    with pytest.raises(TypeError, match="of ours"):
        graphed(torch.ones(1))


@WAYS
def test_each_size_has_a_recording_and_results_are_kept(device: str, record: Record) -> None:
    graphed, kept = GraphedPerSize(sums, record), []
    for size in [3, 5, 3, 1] * CALLS:
        x, y = torch.randn(2, size, size, device=device)
        kept.append((graphed(x, y), sums(x, y)))
    for results, expected in kept:  # none was overwritten by a later call
        assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


def test_few_sizes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(Graphed):
        def __init__(self, function: Callable[..., tuple[Tensor, ...]], record: Record) -> None:
            super().__init__(function, record)
            made.append(self)

    monkeypatch.setattr(graphs, "Graphed", Counted)
    graphed = GraphedPerSize(lambda x: (x + 1,), call_directly)

    def call(*sizes: int) -> int:
        for size in sizes:
            assert torch.equal(graphed(torch.ones(size))[0], torch.full((size,), 2.0))
        return len(made)

    assert call(*range(KEPT_SIZES)) == KEPT_SIZES
    assert call(0, KEPT_SIZES) == KEPT_SIZES + 1  # 1 makes room, the least recently used one
    assert call(0, 2, KEPT_SIZES) == KEPT_SIZES + 1
    assert call(1) == KEPT_SIZES + 2


def test_only_a_gpu_records() -> None:
    assert recorder(torch.device("cpu")) is None
    assert recorder(torch.device("cuda", 1)) is record_cuda_graph
