"""Benchmarks on a GPU: all tensors are on it, and the feature networks' speeds are told apart."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from one_device import GPU, OneDevice

from benchmarks.suites import evaluate, units
from benchmarks.suites.evaluate import network_speed, tf32
from benchmarks.suites.step import Step, make_step
from benchmarks.suites.units import Units
from reference.i3d import logits, random_variables
from reference.step import Trainer as PlainTrainer
from trivd.evaluation.networks.digits import load_digits_network
from trivd.evaluation.networks.i3d import I3D, Identity
from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.presets import preset
from trivd.runtime.hardware import full_float32

CPU = torch.device("cpu")
STEP = Step(channels=2, batch=2, resolution=32, predicted_frames=2, discriminator_frames=1, memory=False, turns=1)
UNITS = Units(shapes=("4@4",), frames=2, batch=1, precision="float32", turns=1)


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for a GPU has none."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def test_the_stand_in_notices_tensors_of_the_cpu() -> None:
    with OneDevice(), pytest.raises(AssertionError, match=r"aten::mul\.Tensor of tensors of"):
        torch.ones(2, device=GPU) * torch.ones(2)


def test_feature_networks() -> None:
    variables = random_variables(variable_shapes(), 0)
    ours, digits = I3D.from_tensorflow(variables, Identity("", "", "")).to(GPU), load_digits_network(GPU)
    video = torch.empty(1, 9, 32, 32, 3, dtype=torch.uint8, device=GPU)
    with OneDevice():
        found = logits(video, variables), ours(video).logits, digits(video).embedding
    assert all(features.device == GPU for features in found)


@pytest.mark.parametrize("decomposition", ["cropped_downsampled", "mocogan_k8"])
def test_a_plain_step(decomposition: str) -> None:
    case = next(case for case in STEP.cases() if case.get("decomposition") == decomposition)
    with OneDevice():
        assert make_step(PlainTrainer(STEP.config(case), GPU))()


@pytest.mark.parametrize("unit", ["tsru_p", "k_traj_gru", "dynamic_conv_lstm"])
def test_units(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def once(ways: dict[str, Callable[[], object]], *_: object, calls: int) -> dict[str, float]:
        for name, way in ways.items():
            way()
            ran.append(name)
        return dict.fromkeys(ways, 1.0)

    monkeypatch.setattr(units, "take_recorded_turns", once)
    with OneDevice():
        UNITS.measure({"unit": unit, "shape": "4@4", "pass": "forward+backward"}, GPU)
    assert {"ours", "plain"} <= set(ran)


def test_the_cost_of_exactness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "NETWORK_CLIPS", 2)
    measured = network_speed(load_digits_network(CPU), preset("quickstart").model, CPU, 1)["network"]
    assert measured["float32"] > 0
    assert measured["TF32"] > 0
    assert measured["largest_relative_difference"] == 0  # a CPU has no TF32


def test_tf32_ends_with_its_context() -> None:
    settings = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    with tf32(CPU):
        assert [setting.fp32_precision for setting in settings] == ["tf32"] * 2
        with full_float32(CPU):
            assert [setting.fp32_precision for setting in settings] == ["ieee"] * 2
    assert [setting.fp32_precision for setting in settings] == before
