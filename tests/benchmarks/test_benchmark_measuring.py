"""Timing with a clock that the test sets, and FLOPs and bytes against counts by hand."""

import mmap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import call_directly

from benchmarks import measuring
from benchmarks.costs import highest_resident_bytes, product_peak, product_ways, resident_bytes
from benchmarks.measuring import circumstances, finisher, ratios, recorded, take_recorded_turns, take_turns
from benchmarks.suites.units import unit_flops
from trivd.training.plan import flops, saved_bytes

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def way(self, name: str, *seconds: float) -> Callable[[], object]:
        """Takes so many seconds, call by call."""
        left = list(seconds)

        def run() -> None:
            self.calls.append(name)
            self.now += left.pop(0)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    return clock


def test_the_gpu_that_works_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be another than the current one."""
    waited: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    finisher(torch.device("cuda", 1))()
    finisher(torch.device("cpu"))()
    assert waited == [torch.device("cuda", 1)]


def test_another_clock_may_be_read(clock: Clock) -> None:
    way = clock.way("a", 0, 3)
    assert take_turns({"a": way}, turns=1, clock=lambda: 10 * clock.now) == {"a": 30}


def test_turns_alternate_and_medians_leave_the_warm_up_out(clock: Clock) -> None:
    seconds = take_turns({"a": clock.way("a", 99, 1, 5, 2), "b": clock.way("b", 99, 10, 30, 70)}, turns=3)
    assert clock.calls == ["a", "b"] * 4
    assert seconds == {"a": 2, "b": 30}


def test_on_a_gpu_ways_are_timed_in_graphs_of_several_calls_and_ours_without_one_too(clock: Clock) -> None:
    """As if the CPU were a GPU, whose graphs call the functions; three calls and a turn warm up."""
    ours = clock.way("ours", *[50] * 3, *[50] * 2, 1, 3, 99, 8)
    seconds = take_recorded_turns(
        {"ours": ours, "copy": clock.way("copy", *[50] * 5, 0.5, 0.5)},
        turns=1,
        device=torch.device("meta"),
        calls=2,
        record=call_directly,
    )
    assert seconds == {"ours": 2, "copy": 0.5, "eager": 8}


def test_on_a_cpu_ways_take_turns_as_they_are(clock: Clock) -> None:
    ways = {"ours": clock.way("ours", 9, 1), "copy": clock.way("copy", 9, 2)}
    assert take_recorded_turns(ways, 1, torch.device("cpu"), 20) == {"ours": 1, "copy": 2}


def test_what_cannot_be_recorded_is_timed_all_the_same(clock: Clock) -> None:
    def refuse(function: Callable[[], object]) -> Callable[[], object]:
        raise RuntimeError("it waits for the device\nand more")

    with pytest.warns(UserWarning, match="copy is timed without a CUDA graph.*: it waits for the device$"):
        way = recorded("copy", clock.way("copy", 1, 1, 1, 5, 5), 2, refuse)
    way()
    assert clock.now == 13


def test_without_a_warm_up_every_turn_counts(clock: Clock) -> None:
    assert take_turns({"a": clock.way("a", 4, 8)}, turns=2, warm_ups=0) == {"a": 6}


def test_what_a_device_still_works_on_counts(clock: Clock) -> None:
    finish = clock.way("finish", 100, 100)
    assert take_turns({"a": clock.way("a", 1, 1)}, turns=1, finish=finish) == {"a": 101}
    assert clock.calls == ["a", "finish"] * 2


def test_ratios_are_quotients_of_what_was_measured() -> None:
    seconds = {"ours": 2.0, "plain": 5.0}
    assert ratios(seconds, ("plain", "ours"), ("ours", "plain"), ("DGMR", "ours")) == {
        "plain / ours": 2.5,
        "ours / plain": 0.4,
    }


def test_circumstances_name_hardware_and_versions() -> None:
    values = circumstances(torch.device("cpu"))
    assert values["versions"]["torch"] == torch.__version__
    assert values["hardware"]["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/home/me/.venv/bin/trivd", "benchmark", "warp"], "trivd benchmark warp"),
        (["/home/me/trivd/__main__.py", "benchmark", "a b"], "trivd benchmark 'a b'"),
        ([f"{ROOT}/benchmarks/scripts/parity.py", "--json", "x"], "python -m benchmarks.scripts.parity --json x"),
        (["tests/fuzz/fuzz.py", "--seed", "1"], "python tests/fuzz/fuzz.py --seed 1"),
    ],
)
def test_circumstances_name_a_command_that_can_be_repeated(
    arguments: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert circumstances(torch.device("cpu"))["command"] == command


@pytest.mark.parametrize("backward", [False, True])
def test_flops_of_conv_gru_are_those_counted_by_hand(backward: bool) -> None:
    """Three 3x3 convolutions of [h; x] at each of T B H W places; a backward pass computes two such products more."""
    frames, batch, channels, pixels = 5, 2, 6, 4
    by_hand = 2 * 9 * (2 * channels) * 3 * channels * frames * batch * pixels**2
    assert unit_flops("conv_gru", (frames, batch, channels, pixels), backward=backward) == by_hand * (
        3 if backward else 1
    )


def test_flops_of_a_matrix_product() -> None:
    a, b = torch.ones(2, 3), torch.ones(3, 5)
    assert flops(lambda: a @ b) == 2 * 2 * 3 * 5


def test_peak_is_the_fastest_product() -> None:
    ways = product_ways(torch.device("cpu"), torch.float32)
    assert {"matrix product 512", "matrix product 1024", "matrix product 2048"} == ways.keys()
    seconds = {"matrix product 512": 2.0, "matrix product 1024": 0.5, "matrix product 2048": 1.0, "ours": 0.1}
    work = 2 * 2 * 2048**3  # every size takes as much, twice the largest product
    assert product_peak(seconds) == work / 0.5


@pytest.mark.parametrize("n", [512, 1024])
def test_products_of_all_sizes_are_as_much_work(n: int) -> None:
    ways = product_ways(torch.device("cpu"), torch.bfloat16)
    with torch.device("meta"):  # counted only
        assert flops(lambda: [torch.empty(n, n) @ torch.empty(n, n) for _ in range(2 * (2048 // n) ** 3)]) == (
            2 * 2 * 2048**3
        )
    assert f"matrix product {n}" in ways


@given(st.integers(1, 50), st.integers(1, 50))
def test_saved_bytes_count_each_storage_once(rows: int, columns: int) -> None:
    def work() -> None:
        x = torch.empty(rows, columns, device="meta", requires_grad=True)
        (x * x.view(rows, columns)).sum()  # keeps x as two tensors
        y = torch.empty(rows, columns, device="meta")
        x * y  # keeps y

    assert saved_bytes(work) == 2 * 4 * rows * columns


def test_the_highest_memory_remembers_what_is_free_again() -> None:
    before = resident_bytes()
    if before is None:
        pytest.skip("this system does not say how much memory a process takes")
    with mmap.mmap(-1, 2**27) as much:  # not an allocation, which might get memory that was freed but kept
        for page in range(0, len(much), mmap.PAGESIZE):
            much[page] = 1
    highest = highest_resident_bytes()
    assert highest is not None
    assert highest >= before + 2**27 - 2**22
