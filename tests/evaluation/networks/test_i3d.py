"""I3D and its resize against the reference graph's own values and against a plain implementation."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reference import i3d as plain
from reference.i3d import Variables, random_variables
from trivd.evaluation.networks.i3d import I3D, Identity, _Cubic, _MaxPool
from trivd.evaluation.networks.i3d_layout import Folded, fold, variable_shapes
from trivd.evaluation.networks.resize import resize_bilinear
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import full_float32

REFERENCE = Path(__file__).parents[4] / "shared" / "i3d"
IDENTITY = Identity(distance="FVD", inception="IS", about="random weights")
PRECISIONS = (  # where PyTorch keeps what float32 may be rounded to
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
)

needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference values of I3D in {REFERENCE}")


@pytest.fixture(scope="module")
def variables() -> Variables:
    return random_variables(variable_shapes(), 0)


@pytest.fixture(scope="module")
def network(variables: Variables) -> I3D:
    return I3D.from_tensorflow(variables, IDENTITY)


@pytest.fixture(scope="module")
def fake_weights() -> ModuleType:
    """The maker of the variables and videos that the reference graph was run with."""
    spec = importlib.util.spec_from_file_location("fake_weights", REFERENCE / "fake_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference_network(fake_weights: ModuleType) -> I3D:
    return I3D.from_tensorflow(fake_weights.fake_variables(variable_shapes()), IDENTITY)


def random_clips(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8)


def precisions() -> list[str]:
    return [setting.fp32_precision for setting in PRECISIONS]


def set_precisions(values: list[str]) -> None:
    for setting, value in zip(PRECISIONS, values, strict=True):
        setting.fp32_precision = value


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())


@needs_reference
def test_variables_are_the_reference_checkpoints() -> None:
    listed = json.loads((REFERENCE / "variables.json").read_text())
    assert variable_shapes() == {name: tuple(entry["shape"]) for name, entry in listed.items()}


@needs_reference
@pytest.mark.parametrize("video", ["a16", "c9"])
def test_equals_the_reference_graph(video: str, reference_network: I3D, fake_weights: ModuleType) -> None:
    with np.load(REFERENCE / "logits.npz") as file:
        expected = {name: torch.from_numpy(file[name]) for name in file if name.startswith(f"{video}/")}
    ends: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, output: ends.update({f"{name}/input": inputs[0], name: output.clone()})

    layers = [*reference_network.layers.items(), ("Logits", reference_network.logits)]
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers]
    features = reference_network(torch.from_numpy(fake_weights.fake_video(video, *expected[f"{video}/shape"].tolist())))
    for hook in hooks:
        hook.remove()

    assert error(features.logits, expected[f"{video}/logits"]) < 2e-6
    assert torch.equal(features.embedding, features.logits)
    assert error(ends["Logits/input"].mean(dim=1), expected[f"{video}/meanpool"]) < 2e-6
    sample = ends["Conv3d_1a_7x7/input"][0, ::4, ::16, ::16]  # frames, resized and scaled: to the last bit
    assert torch.equal(sample, expected[f"{video}/input_sample"])
    compared = 0
    for name, end in ends.items():
        for suffix in ("", "/Relu", "/concat"):
            key = f"{video}/end/{name}{suffix}"
            if f"{key}/shape" in expected:
                assert list(end.shape) == expected[f"{key}/shape"].tolist()
                moments = torch.stack([end.double().mean(), end.double().std(correction=0)])
                assert error(moments, expected[f"{key}/meanstd"]) < 2e-6, name
                corners = end[:, [0, -1]][:, :, [0, -1]][:, :, :, [0, -1], :8]
                assert error(corners, expected[f"{key}/corners"]) < 1e-5, name  # few values, and small ones
                compared += 1
    assert compared == 12


@pytest.mark.parametrize(
    ("frames", "height", "width", "channels"),
    [(9, 30, 224, 3), (20, 225, 7, 1)],  # strides of 2 meet 9, 5 and 3 time steps, and 20, 10 and 5: two to average
)
def test_equals_the_plain_network(
    network: I3D, variables: Variables, frames: int, height: int, width: int, channels: int
) -> None:
    video = random_clips(1, frames, height, width, channels)
    features = network(video)
    assert features.logits.shape == (1, 400)
    with torch.no_grad():
        assert error(features.logits, plain.logits(video, variables)) < 5e-6


@settings(max_examples=50)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 3),
)
def test_convolutions_are_padded_by_the_size_of_their_input(
    size: tuple[int, int, int], kernel: int, stride: int
) -> None:
    weight, bias, features = torch.randn(4, 2, *[kernel] * 3), torch.randn(4), torch.randn(2, 2, *size)
    convolution = _Cubic(Folded(weight, bias), stride)
    expected = nn.functional.conv3d(plain.pad_same(features, (kernel,) * 3, (stride,) * 3, 0.0), weight, bias, stride)
    torch.testing.assert_close(convolution(features.movedim(1, -1)).movedim(-1, 1), expected, atol=1e-4, rtol=1e-5)


@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(2, 9)),
    window=st.sampled_from(
        [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3,) * 3, (1,) * 3)]
    ),
)
def test_max_pools_are_padded_by_the_size_of_their_input(
    size: tuple[int, int, int], window: tuple[tuple[int, int, int], tuple[int, int, int]]
) -> None:
    features = torch.randn(2, 3, *size)  # also negative: padding with zeros would show
    pooled = _MaxPool(*window)(features.movedim(1, -1)).movedim(-1, 1)
    assert torch.equal(pooled, plain.max_pool(features, *window))


@needs_reference
def test_resize_equals_tensorflow_to_the_last_bit() -> None:
    video = np.random.RandomState(68).randint(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    with np.load(REFERENCE / "resize.npz") as file:
        assert np.array_equal(resize_bilinear(torch.from_numpy(video)[None], 224, 224)[0].numpy(), file["up64"])


@given(source=st.tuples(*[st.integers(1, 40)] * 2), target=st.tuples(*[st.integers(1, 40)] * 2))
def test_resize_equals_the_plain_resize(source: tuple[int, int], target: tuple[int, int]) -> None:
    video = random_clips(2, 2, *source, 3)
    resized = resize_bilinear(video, *target)
    assert resized.dtype == torch.float32
    torch.testing.assert_close(resized.double(), plain.resize(video, *target), atol=2e-3, rtol=0)


def test_resize_has_no_half_pixel_centres() -> None:
    row = torch.tensor([0, 100], dtype=torch.uint8).view(1, 1, 1, 2, 1)
    assert resize_bilinear(row, 1, 4).flatten().tolist() == [0, 50, 100, 100]


@pytest.fixture
def lowered_precision() -> Iterator[list[str]]:
    """Settings under which PyTorch may round float32 to fewer bits."""
    before, lowered = precisions(), ["tf32", "tf32", "bf16", "bf16"]
    set_precisions(lowered)
    yield lowered
    set_precisions(before)


def test_precision_settings_change_neither_the_result_nor_themselves(
    network: I3D, lowered_precision: list[str]
) -> None:
    video = random_clips(1, 9, 8, 8, 3)
    during: list[str] = []
    hook = network.logits.register_forward_hook(lambda *_: during.extend(precisions()))
    with torch.autocast("cpu", torch.bfloat16):
        lowered = network(video).logits
    hook.remove()
    assert during == ["ieee"] * 4
    assert precisions() == lowered_precision
    set_precisions(["ieee"] * 4)
    assert lowered.dtype == torch.float32
    assert torch.equal(lowered, network(video).logits)


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_flags_come_back_after_an_error(allowed: bool) -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = allowed
        with pytest.raises(RuntimeError, match="in between"), full_float32(torch.device("cpu")):
            raise RuntimeError("in between")
        assert [flag.allow_tf32 for flag in flags] == [allowed] * 2
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (random_clips(1, 8, 64, 64, 3), "8 frames, but the feature network needs at least 9"),
        (torch.zeros(1, 9, 64, 64, 3), "take uint8 frames .* not float32"),
        (random_clips(9, 64, 64, 3), r"must be \(B, T, H, W, 1 or 3\)"),
        (random_clips(1, 9, 64, 64, 4), r"must be \(B, T, H, W, 1 or 3\)"),
    ],
)
def test_clips_that_would_give_a_wrong_number_are_refused(network: I3D, video: Tensor, message: str) -> None:
    with pytest.raises(TrivdError, match=message):
        network(video)


BETA = "RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/beta"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(BETA), f"lack variable {BETA}"),
        (lambda weights: weights.update({"global_step": np.zeros(())}), "have an unknown variable global_step"),
        (lambda weights: weights.update({BETA: np.zeros(64)}), rf"{BETA} has shape \(64,\)"),
        (lambda weights: weights.update({BETA: np.full((1, 1, 1, 1, 64), np.nan)}), f"{BETA} has values that are not"),
    ],
)
def test_other_weights_are_refused(
    variables: Variables, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    changed = dict(variables)
    change(changed)
    with pytest.raises(TrivdError, match=message):
        fold(changed)


def test_says_what_its_figures_are_called(network: I3D) -> None:
    assert (network.distance, network.inception, network.about, network.shortest) == ("FVD", "IS", "random weights", 9)
