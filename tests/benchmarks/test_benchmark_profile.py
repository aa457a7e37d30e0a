"""The profile of a step: no time counts twice or is left out, and every kind of work is found."""

import io
import json
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import tyro
from rich.console import Console
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile, record_function

import trivd.ops
from benchmarks import attribution
from benchmarks.attribution import (
    FRAME_NORM,
    MODULES,
    OPTIMIZER,
    SPECTRAL_NORM,
    Kind,
    kind_of,
    labelled_normalisation,
    operator_kind,
    processor_events,
    replay_convolutions,
    scopes,
    seconds_by_kind,
    top_operators,
)
from benchmarks.kernels import kernel_kind, kernels_of
from benchmarks.main import Benchmark
from benchmarks.suites import profile as benchmark_profile
from benchmarks.suites.profile import SMALL, Profile, detail_tables, fill_profile, kernel_lines, profile_step
from trivd.config import Config
from trivd.models import spectral_norm as normalization
from trivd.models.frame_norm import FrameNormReLU, affine_maps
from trivd.models.layers import SNConv
from trivd.ops.operator import Operator
from trivd.ops.warp import warp
from trivd.pictures.markdown import BEGIN, END
from trivd.presets import preset
from trivd.runtime.errors import TrivdError
from trivd.training.plan import Plan

CPU = torch.device("cpu")
DOCUMENT = Path(__file__).parents[2] / "docs" / "profile.md"
PHASES = [
    "D: drawing futures",
    "D: discriminators",
    "D: losses and backward",
    "D: check and Adam",
    "G: drawing futures",
    "G: discriminators",
    "G: losses and backward",
    "G: check and Adam",
    "moving average",
]


ON_A_GPU = {  # columns that are empty on a CPU
    "step in a CUDA graph [s]",
    "kernels",
    "kernel time [s]",
    "convolutions and products of it [%]",
    "in a graph / that floor",
}
WARP_BACKWARD = "GeneratedBackwardFor_trivd_warp_defaultBackward"


@dataclass
class Event:
    """The parts of a profiler's event that attribution reads."""

    name: str
    cpu_parent: "Event | None" = None
    self_cpu_time_total: float = 0.0
    input_shapes: list[Any] = field(default_factory=list)


def nested(*names: str) -> Any:
    """The innermost of events inside each other, the outermost first."""
    event = None
    for name in names:
        event = Event(name, event)
    return event


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.costs.PRODUCT_SIZES", {"cpu": (8, 16)})


@pytest.fixture(scope="module")
def measured(tiny_config: Callable[..., Config]) -> dict[str, Any]:
    """What is measured of a tiny step of a unit that has every kind of work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.costs.PRODUCT_SIZES", {"cpu": (8, 16)})
        patch.setattr(attribution, "MAIN", 3)
        return profile_step(tiny_config(training={"ema_start": 1}), CPU, torch.float32, 1)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("aten::conv2d", "aten::convolution", "aten::mkldnn_convolution"), Kind.FORWARD),
        (("aten::cudnn_convolution_transpose",), Kind.FORWARD),
        (("_Use", "aten::conv2d", "aten::mkldnn_convolution"), Kind.FORWARD),
        ((f"{attribution.AUTOGRAD}: _UseBackward", "_UseBackward", "aten::conv2d"), Kind.BACKWARD),
        ((f"{attribution.AUTOGRAD}: X", "X", "aten::convolution_backward"), Kind.BACKWARD),
        (("aten::conv2d", "aten::_slow_conv2d_forward", "aten::addmm"), Kind.FORWARD),
        (("aten::convolution", "aten::contiguous", "aten::copy_"), Kind.ELEMENTWISE),
        (("aten::_convert_weight_to_int4pack",), Kind.ELEMENTWISE),
        (("aten::linear", "aten::addmm"), Kind.PRODUCTS),
        (("_Use", "aten::linear"), Kind.PRODUCTS),
        ((SPECTRAL_NORM, "aten::mv", "aten::addmv_"), Kind.NORMALISATION),
        ((FRAME_NORM,), Kind.NORMALISATION),
        (("_DivideBackward", "aten::dot"), Kind.NORMALISATION),
        (("trivd::normalize", "aten::to", "aten::copy_"), Kind.NORMALISATION),
        (("_OffDiagonal", "aten::mm"), Kind.OPTIMIZER),
        ((OPTIMIZER, "aten::_foreach_norm"), Kind.OPTIMIZER),
        (("trivd::warp",), Kind.RECURRENT),
        ((f"{attribution.AUTOGRAD}: {WARP_BACKWARD}", WARP_BACKWARD, "trivd::warp_backward"), Kind.RECURRENT),
        (("trivd::mix", "aten::lerp"), Kind.RECURRENT),
        (("aten::upsample_bilinear2d",), Kind.ELEMENTWISE),
        (("aten::relu", "aten::clamp_min"), Kind.ELEMENTWISE),
        ((f"{attribution.AUTOGRAD}: {WARP_BACKWARD}",), Kind.REST),
        (("detach",), Kind.REST),
    ],
    ids=lambda value: " > ".join(value) if isinstance(value, tuple) else str(value),
)
def test_kinds_of_events(names: tuple[str, ...], kind: Kind) -> None:
    assert kind_of(nested(*names), scopes()) == kind


def test_every_module_of_operations_has_a_kind() -> None:
    """Whoever adds or renames a module of trivd.ops, or writes the first autograd function elsewhere, has to add it."""
    operations = {f"trivd.ops.{module.name}" for module in pkgutil.iter_modules(trivd.ops.__path__) if not module.ispkg}
    functions = {function.__module__ for function in torch.autograd.Function.__subclasses__()}
    assert operations | {module for module in functions if module.startswith("trivd.")} == set(MODULES)


def test_operators_have_the_kind_of_their_module() -> None:
    for name in ("warp", "warp_backward", "mix", "activate"):
        assert operator_kind(f"trivd::{name}") == Kind.RECURRENT
        assert operator_kind(f"GeneratedBackwardFor_trivd_{name}_defaultBackward") == Kind.RECURRENT
    assert operator_kind("trivd::statistics") == Kind.NORMALISATION
    assert operator_kind("aten::relu") is None
    assert {name for name in dir(torch.ops.trivd) if f"trivd::{name}" in Operator.instances} == {
        name.removeprefix("trivd::") for name in Operator.instances
    }


def test_kinds_cover_all_time_once() -> None:
    """Events nested in each other: own times are summed, and what is in none of them is the rest."""
    outer = Event("aten::conv2d", None, 1e6)
    inner = Event("aten::mkldnn_convolution", outer, 3e6)
    events: Any = [outer, inner, Event("aten::add", None, 0.5e6), Event("Loop", None, 0.25e6)]
    found = seconds_by_kind(events, 5.0, CPU)
    assert found == dict.fromkeys(Kind, 0.0) | {Kind.FORWARD: 4.0, Kind.ELEMENTWISE: 0.5, Kind.REST: 0.5}


def test_own_times_are_those_of_the_profiler() -> None:
    """On real events: the kinds' sum is what the profiler's own table sums to, one total for all of the main thread."""
    x, weight = torch.randn(4, 8, 16, 16, requires_grad=True), torch.randn(8, 8, 3, 3, requires_grad=True)
    taps = torch.randn(4, 9, 16, 16).softmax(1)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler, record_function("all"):
        (warp(F.conv2d(x, weight, padding=1), taps).relu().flatten(1) @ torch.ones(2048, 1)).sum().backward()
    events = processor_events(profiler)
    (everything,) = (event for event in events if event.name == "all")
    whole = everything.cpu_time_total / 1e6
    found = seconds_by_kind(events, whole, CPU)
    assert sum(found.values()) == pytest.approx(whole)
    by_operator = sum(each.self_cpu_time_total for each in profiler.key_averages()) / 1e6
    assert by_operator == pytest.approx(whole, rel=0.01)  # all but what runs outside "all"
    for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.PRODUCTS, Kind.RECURRENT, Kind.ELEMENTWISE):
        assert 0 < found[kind] < whole
    assert found[Kind.NORMALISATION] == found[Kind.OPTIMIZER] == 0


def test_operators_are_grouped_by_size() -> None:
    events: Any = [
        Event("aten::add", None, 2e6, [[2, 3], [2, 3], []]),
        Event("aten::add", None, 1e6, [[2, 3], [2, 3], []]),
        Event("aten::add", None, 5e6, [[4, 3], [], []]),
        Event("_Divide", None, 1e6, [[[1, 2], [3, 4]]]),
    ]
    rows = top_operators(events, CPU)
    assert [(row["name"], row["shapes"], row["count"], row["seconds"]) for row in rows] == [
        ("add", "4x3", 1, 5.0),
        ("add", "2x3, 2x3", 2, 3.0),
        ("_Divide", "", 1, 1.0),
    ]


def test_convolutions_are_run_alone_with_the_same_sizes() -> None:
    """Forward and backward, in 2 and 3 dimensions, strided and transposed; FLOPs by hand."""
    x, cube = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(2, 3, 5, 8, 8, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        F.conv2d(x, torch.randn(6, 4, 3, 3), torch.zeros(6), padding=1).sum().backward()
        F.conv3d(cube, torch.randn(2, 3, 3, 4, 4), stride=(1, 2, 2), padding=1).sum().backward()
        F.conv_transpose2d(x, torch.randn(4, 6, 4, 4), stride=2, padding=1)
    rows = replay_convolutions(processor_events(profiler), CPU, torch.float32, 1)
    forward = {row["shapes"]: row["flops"] for row in rows if row["name"] == "convolution"}
    assert forward == {
        "2x4x8x8, 6x4x3x3, 6": 2 * 2 * 8 * 8 * 6 * 4 * 9,
        "2x3x5x8x8, 2x3x3x4x4": 2 * 2 * 5 * 4 * 4 * 2 * 3 * 3 * 16,
        "2x4x8x8, 4x6x4x4": 2 * 2 * 8 * 8 * 4 * 6 * 16,
    }
    assert sorted(row["name"] for row in rows) == ["convolution"] * 3 + ["convolution_backward"] * 2
    assert all(row["count"] == 1 and row["seconds"] > 0 and row["seconds_alone"] > 0 for row in rows)


def test_a_step_has_every_kind_of_work(measured: dict[str, Any]) -> None:
    assert list(measured["kinds"]) == list(Kind)
    assert all(seconds > 0 for seconds in measured["kinds"].values())
    assert sum(measured["kinds"].values()) == pytest.approx(measured["seconds"]["profiled"])


def test_phases_add_up_to_the_step(measured: dict[str, Any]) -> None:
    assert list(measured["phases"]) == PHASES
    assert all(seconds > 0 for seconds in measured["phases"].values())
    assert sum(measured["phases"].values()) == pytest.approx(measured["seconds"]["step"], rel=0.05)


def test_both_normalisations_are_found() -> None:
    """With all that is in them: compiled kernels are own time of nothing else."""
    norm, layer = FrameNormReLU(2, 4, None), SNConv(4, 4)
    affine = affine_maps(norm, torch.zeros(3, 1))[norm]
    with labelled_normalisation(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        norm(torch.randn(2, 3, 4, 8, 8), affine)
        layer.normalized_weight()
    events = processor_events(profiler)
    for label in (SPECTRAL_NORM, FRAME_NORM):
        (scope,) = (event for event in events if event.name == label)
        assert {kind_of(event, scopes()) for event in (scope, *scope.cpu_children)} == {Kind.NORMALISATION}


def test_operators_and_convolutions_of_a_step(measured: dict[str, Any]) -> None:
    seconds = [row["seconds"] for row in measured["operators"]]
    assert len(seconds) == attribution.TOP
    assert seconds == sorted(seconds, reverse=True)
    assert sum(seconds) < measured["seconds"]["profiled"]
    assert len(measured["convolutions"]) == 3
    rates = [row["flops"] / row["seconds_alone"] for row in measured["convolutions"]]
    assert min(rates) <= measured["convolution_flops_per_second"] <= max(rates)


@pytest.mark.usefixtures("measured")
def test_profiling_leaves_the_library_as_it_was() -> None:
    assert normalization._normalize.__name__ == "_normalize"
    assert FrameNormReLU.forward.__name__ == "forward"


def gpu_event(name: str, microseconds: float, device: str = "CUDA") -> Any:
    return SimpleNamespace(
        name=name,
        device_type=SimpleNamespace(name=device),
        time_range=SimpleNamespace(elapsed_us=lambda: microseconds),
    )


def test_kernels_are_counted_by_name_without_the_scopes_around_them() -> None:
    events = [
        gpu_event("void at::native::elementwise_kernel<128, 4>(int)", 10),
        gpu_event("sm90_xmma_fprop_implicit_gemm_bf16", 20),
        gpu_event("sm90_xmma_fprop_implicit_gemm_bf16", 5),
        gpu_event("nvjet_sm90_tst_128x8", 5),
        gpu_event("Optimizer.step#Adam.step", 100, "CPU"),
        gpu_event("Optimizer.step#Adam.step", 90),
    ]
    found = kernels_of(events)
    assert found is not None
    assert (found["count"], found["share"]) == (4, pytest.approx(0.75))
    assert found["seconds"] == pytest.approx(40e-6)
    assert [(row["kind"], row["count"]) for row in found["names"]] == [("convolutions", 2), ("", 1), ("products", 1)]
    assert found["names"][1]["name"] == "at::native::elementwise_kernel<128, 4>(int)"
    heading, first, *_ = kernel_lines(found)
    assert first == ["sm90_xmma_fprop_implicit_gemm_bf16", "convolutions", "2", "0.03", "62.5"]
    assert len(heading) == len(first)
    assert kernels_of(events[4:5]) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm80_xmma_wgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc", "convolutions"),
        ("void convolve_common_engine_float_NHWC<__nv_bfloat16>", "convolutions"),
        ("void nhwcAddPaddingKernel<__nv_bfloat16, float, true, (cudnnKernelDataType_t)9>", "convolutions"),
        ("nvjet_sm90_tst_128x8_64x12_4x1_v_bz_splitK_bias_TNT", "products"),
        ("void cutlass::Kernel2<cutlass_75_tensorop_bf16_s1688gemm_bf16_64x64_tn_align1>", "products"),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float>", "products"),
        ("void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(at::TensorIter", ""),
        ("_warp_backward", ""),
        ("Memcpy HtoD (Pageable -> Device)", ""),
    ],
)
def test_kinds_of_kernels(name: str, kind: str) -> None:
    assert kernel_kind(name) == kind


def test_models_are_those_of_the_step_suite() -> None:
    suite = Profile(channels=4, batch=2, unit="conv_gru", decomposition="faster")
    paper, small = (suite.config(case) for case in suite.cases())
    assert (paper.model.generator_channels, paper.model.discriminator_channels, paper.training.batch_size) == (4, 4, 2)
    assert (paper.model.unit, paper.discriminator.decomposition) == ("conv_gru", "faster")
    assert small.model.unit == "conv_gru"
    quickstart = Profile(models=("small",))
    (case,) = quickstart.cases()
    assert case["model"] == SMALL
    assert quickstart.config(case).model == preset("quickstart").model
    assert quickstart.config(case).training.ema_start == 1  # the average takes part


def run(*arguments: str) -> str:
    console = Console(file=io.StringIO(), width=250)
    assert tyro.cli(Benchmark, args=arguments).run(console) == 0
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def fake(measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has the tiny step's figures."""
    monkeypatch.setattr(
        benchmark_profile, "profile_step", lambda *arguments: json.loads(json.dumps(measured, default=float))
    )
    monkeypatch.setattr(benchmark_profile, "make_plan", lambda config: Plan(1, {"clip": 2}, 6 * 10**9, 10**9, 5, 6, 7))


@pytest.mark.usefixtures("fake")
def test_floors_are_flops_at_measured_rates(measured: dict[str, Any]) -> None:
    suite = Profile(models=("small",))
    row = suite.measure(suite.cases()[0], CPU)
    seconds = measured["seconds"]
    peak = max(2 * 8**3 * 16 / seconds["matrix product 8"], 2 * 16**3 * 2 / seconds["matrix product 16"])
    assert row["floors"]["product"] == pytest.approx(7e9 / peak)
    assert row["floors"]["convolution"] == pytest.approx(7e9 / measured["convolution_flops_per_second"])
    assert row["ratios"]["profiled / step"] == pytest.approx(seconds["profiled"] / seconds["step"])
    assert row["ratios"]["step / convolution floor"] == pytest.approx(seconds["step"] / row["floors"]["convolution"])
    empty = [column.heading for column in suite.columns if not column.cell({"case": suite.cases()[0], **row})]
    assert set(empty) == ON_A_GPU


@pytest.mark.usefixtures("fake")
def test_the_command_keeps_prints_and_documents(tmp_path: Path) -> None:
    path, document = tmp_path / "profile.json", tmp_path / "page.md"
    begin, end = BEGIN.format("benchmark profile"), END.format("benchmark profile")
    document.write_text(f"# Title\n\n{begin}\nformer\n{end}\nafter\n")
    arguments = ("profile", "--quick", "--json", str(path), "--document", str(document))
    printed = run(*arguments)
    values = json.loads(path.read_text())
    assert [row["case"]["model"] for row in values["rows"]] == ["ch 8, 2 clips", SMALL]
    text = document.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\nafter\n")
    assert "former" not in text
    for title, lines in detail_tables(values).items():
        assert f"### {title}\n" in text
        for cells in lines[1:]:
            assert f"| {' | '.join(cells)} |\n" in text
            assert cells[0] in printed
    kinds = values["rows"][0]["kinds"]
    assert math.isclose(sum(kinds.values()), values["rows"][0]["seconds"]["profiled"])
    assert f"| {Kind.REST} | {kinds[Kind.REST]:.3f} |" in text
    run(*arguments)  # nothing is measured again
    assert document.read_text() == text


@pytest.mark.usefixtures("fake")
def test_small_is_the_preset_alone(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    run("profile", "--small", "--json", str(path))
    assert [row["case"]["model"] for row in json.loads(path.read_text())["rows"]] == [SMALL]


@pytest.mark.usefixtures("fake")
def test_a_graphics_card_has_a_place_of_its_own(tmp_path: Path) -> None:
    path, document = tmp_path / "profile.json", tmp_path / "page.md"
    run("profile", "--small", "--json", str(path))
    values = json.loads(path.read_text())
    values["hardware"]["device"] = "Loom 3"
    document.write_text(f"{BEGIN.format('benchmark profile')}\n{END.format('benchmark profile')}\n")
    with pytest.raises(TrivdError, match="no place for benchmark profile cuda"):
        fill_profile(values, document)
    with pytest.raises(TrivdError, match="cannot be read"):
        fill_profile(values, tmp_path / "none.md")


def test_the_documentation_has_both_places() -> None:
    text = DOCUMENT.read_text()
    for name in ("benchmark profile", "benchmark profile cuda"):
        assert text.count(f"{BEGIN.format(name)}\n") == text.count(f"{END.format(name)}\n") == 1
    assert "trivd benchmark profile --json" in text
