"""Every suite in a tiny form: its rows have what its table shows, and its ratios are those of the times."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.main import SUITES
from benchmarks.suite import Case, Suite
from benchmarks.suites import predict, step, units, warp
from benchmarks.suites.data import Data
from benchmarks.suites.evaluate import Evaluation
from benchmarks.suites.predict import Predict
from benchmarks.suites.step import Step
from benchmarks.suites.units import Units
from benchmarks.suites.warp import Warp
from trivd.config import Config, Unit
from trivd.presets import preset
from trivd.training.plan import Plan
from trivd.training.step import Trainer

CPU = torch.device("cpu")
PAPER = Path(__file__).parents[3] / "shared" / "paper" / "trivd-gan.txt"
WARP = Warp(shapes=("4@4",), batch=1, turns=1)
UNITS = Units(shapes=("4@4",), frames=2, batch=1, turns=1)
STEP = Step(channels=2, batch=2, resolution=32, predicted_frames=2, discriminator_frames=1, memory=False, turns=1)
PREDICT = Predict(channels=2, resolution=32, batches=(2,), turns=1)
PLAN = Plan(1, {"clip": 2}, 3_000_000, 4_000_000, 5, 6, 7)
Fake = Callable[..., None]


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch: pytest.MonkeyPatch, tiny_config: Callable[..., Config]) -> None:
    """No DGMR, small matrix products and a small step."""
    monkeypatch.setattr(units, "dgmr_conv_gru", lambda channels: None)
    monkeypatch.setattr(predict, "find_dgmr", lambda: None)
    monkeypatch.setattr("benchmarks.costs.PRODUCT_SIZES", {"cpu": (8, 16)})
    monkeypatch.setattr(step, "make_plan", lambda config: PLAN)  # a real one takes seconds
    monkeypatch.setattr(step, "preset", lambda name: tiny_config(model={"recurrent_resolutions": (16, 32)}))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Every way is run once, and takes the seconds given."""

    def replace(module: Any, seconds: Mapping[str, float]) -> None:
        def take_turns(ways: Mapping[str, Callable[[], object]], *options: object, **named: object) -> dict[str, float]:
            for way in ways.values():
                way()
            return {name: seconds[name] for name in ways}

        name = "take_recorded_turns" if hasattr(module, "take_recorded_turns") else "take_turns"
        monkeypatch.setattr(module, name, take_turns)

    return replace


@pytest.mark.parametrize(
    ("suite", "case"),
    [
        *((WARP, case) for case in WARP.cases()),
        *((UNITS, case) for case in UNITS.cases() if case["unit"] in ("conv_gru", "tsru_p", "dynamic_conv_lstm")),
        *((STEP, case) for case in STEP.cases() if case["unit"] in ("conv_gru", "ptsru_s")),
        *((PREDICT, case) for case in PREDICT.cases()),
        *((Data.quick(), case) for case in Data.quick().cases() if case["what"] != "preparing"),  # starts processes
        (Evaluation(clips=4, our_clips=4, preset="quickstart", turns=1), {"features": "moving-digits"}),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else value.name,
)
def test_a_row_fills_its_suites_table(suite: Suite, case: Case) -> None:
    row = {"case": case, **suite.measure(case, CPU)}
    empty = {column.heading for column in suite.columns if column.cell(row) == ""}
    optional = {"memory [GiB]", "paper [GB]", "DGMR's FLOPs / ours"}
    of_gpus = ("ours without a graph", "without", "network, float32", "with TF32")
    optional |= {heading for heading in empty if heading.startswith(of_gpus)}
    assert empty <= (optional | {"plain float32 / ours"} if case.get("table") in (1, 2, "chosen") else optional)
    assert all(seconds > 0 for seconds in row["seconds"].values())
    assert all(bar.value > 0 for bar in suite.bars(row))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("quick", [False, True])
def test_cases_are_distinct(suite: type[Suite], quick: bool) -> None:
    settings = suite.quick() if quick else suite()  # type: ignore[call-arg]
    cases = [tuple(case.items()) for case in settings.cases()]
    assert len(set(cases)) == len(cases) > 0


def test_ratios_of_warps(fake: Fake) -> None:
    fake(warp, {"ours": 2.0, "copy": 0.5, "unfold": 8.0, "slices": 3.0})
    row = WARP.measure({"shape": "4@4", "precision": "float32", "pass": "forward"}, CPU)
    assert row["ratios"] == {"ours / copy": 4, "unfold / ours": 4, "slices / ours": 1.5}
    assert row["bytes_per_second"] == 4 * (2 * 4 * 16 + 9 * 16) / 2  # reads features and weights, writes features
    assert row["largest_difference"] < 1e-5
    row = WARP.measure({"shape": "4@4", "precision": "bfloat16", "pass": "forward+backward"}, CPU)
    assert row["bytes_per_second"] == 2 * (5 * 4 * 16 + 3 * 9 * 16) / 2


def test_ratios_of_units(fake: Fake) -> None:
    fake(units, {"ours": 6.0, "conv_gru": 4.0, "plain": 12.0})
    row = UNITS.measure({"unit": "tsru_p", "shape": "4@4", "pass": "forward"}, CPU)
    assert row["ratios"] == {"ours / conv_gru": 1.5, "ours / plain": 0.5}
    assert row["missing"]["ours / DGMR"].startswith("not installed")
    assert row["flops_per_second"] == row["flops"] / 6
    row = UNITS.measure({"unit": "conv_gru", "shape": "4@4", "pass": "forward+backward"}, CPU)
    assert row["ratios"] == {"ours / conv_gru": 1, "ours / plain": 0.5}


def test_dgmr_takes_its_turn_where_it_is_installed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "dgmr_conv_gru", units.plain_conv_gru)
    fake(units, {"ours": 6.0, "conv_gru": 4.0, "plain": 12.0, "DGMR": 24.0})
    row = UNITS.measure({"unit": "tsru_p", "shape": "4@4", "pass": "forward+backward"}, CPU)
    assert row["ratios"]["ours / DGMR"] == 0.25
    assert "missing" not in row


def test_a_unit_that_does_not_fit_into_memory_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "available_bytes", lambda device: 1000)
    case: Case = {"unit": "dynamic_conv_lstm", "shape": "4@4", "pass": "forward"}
    row = {"case": case, **UNITS.measure(case, CPU)}
    assert "seconds" not in row
    assert "needs 0 GiB" in [column.cell(row) for column in Units.columns]
    assert Units.bars(row) == []


def test_a_backward_pass_needs_memory_for_every_step() -> None:
    forward, both = (units.needed_bytes("conv_gru", (8, 1, 2, 32), backward=backward) for backward in (False, True))
    assert 6 < both / forward < 8  # weights are kept once


def test_ratios_of_a_step(fake: Fake) -> None:
    fake(step, {"ours": 3.0, "first": 2.0, "matrix product 8": 1e-6, "matrix product 16": 2e-6})
    row = STEP.measure({"table": 1, "decomposition": "stronger", "unit": "conv_gru"}, CPU)
    assert row["ratios"]["ours / first"] == 1.5
    assert row["paper_ratio"] == 548 / 488
    assert row["peak_flops_per_second"] == 2 * 2 * 16**3 / 1e-6
    assert row["flops"] == 7_000_000
    assert row["share_of_peak"] == pytest.approx(7e6 / 3 / (2 * 2 * 16**3 / 1e-6))
    row = STEP.measure({"table": 2, "decomposition": "faster", "unit": "tsru_p"}, CPU)
    assert row["paper_ratio"] == 354 / 284
    row = STEP.measure({"table": 2, "decomposition": "faster", "unit": "conv_lstm"}, CPU)
    assert "paper_ratio" not in row
    assert "plain / ours" not in row["ratios"]


def test_a_small_step_takes_turns_with_the_plain_one(fake: Fake) -> None:
    fake(step, {"ours": 3.0, "first": 2.0, "plain": 12.0, "matrix product 8": 1e-6, "matrix product 16": 2e-6})
    row = STEP.measure({"table": "small", "decomposition": "stronger", "unit": "tsru_p"}, CPU)
    assert row["ratios"] == {"ours / first": 1.5, "plain / ours": 4}
    assert "paper_ratio" not in row


def test_the_small_step_is_that_of_the_quickstart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its preset is the one that the Makefile trains; only the unit is the row's."""
    makefile = Path(__file__).parents[2] / "Makefile"
    assert f"--preset {step.SMALL_PRESET} " in makefile.read_text()
    monkeypatch.setattr(step, "preset", preset)
    cases = [case for case in STEP.cases() if case["table"] == "small"]
    assert [case["unit"] for case in cases] == ["conv_gru", "tsru_p"]
    assert STEP.config(cases[1]) == preset(step.SMALL_PRESET)


def test_ratios_of_predictions(fake: Fake) -> None:
    fake(predict, {"ours": 0.5, "plain": 2.0})
    row = PREDICT.measure({"model": "paper", "batch": 2, "precision": "float32"}, CPU)
    assert row["ratios"] == {"plain / ours": 4}
    assert row["futures_per_second"] == 4
    assert row["real_time"] == 0.44  # 11 frames, 25 per second


def test_memory_of_a_step_is_at_least_that_of_the_weights() -> None:
    """Bytes of networks, gradients and optimizers; the moving average has not started."""
    settings = Step(channels=4, batch=2, resolution=32, predicted_frames=2, discriminator_frames=1)
    config = settings.config(settings.cases()[0])
    found = step.measure_memory(config, CPU, torch.float32)
    if found is None:
        pytest.skip("this system does not say how much memory a process takes")
    trainer = Trainer(config, CPU, torch.float32)
    weights = [*trainer.generator.parameters(), *trainer.discriminators.parameters()]
    assert found > 4 * 4 * sum(weight.numel() for weight in weights)  # float32, gradients, and Adam's two moments
    assert found < 2**30


def test_tables_of_the_paper() -> None:
    """Milliseconds and gigabytes as the paper prints them, row by row."""
    if not PAPER.is_file():
        pytest.skip(f"{PAPER} is not there")
    text = PAPER.read_text()
    table = text[text.index("Table 1:") :]
    for values, pattern in ((step.PAPER_MS, "{:.0f}"), (step.PAPER_GB, "{:.2f}")):
        place = 0
        groups = [list(values)[:4], list(values)[4:7], list(values)[7:]]  # lines of the text
        for group in groups:
            line = " ".join(pattern.format(values[name]) for name in group)
            place = table.index(line, place)
    assert "ConvGRU (resp. TSRU) run at 284ms (resp. 354ms)" in text
    measured: set[Unit] = {"conv_gru", "tsru_c", "tsru_p", "tsru_s"}
    assert measured == step.PAPER_UNIT_MS.keys()
