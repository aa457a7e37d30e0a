"""The CPU kernels against the plain PyTorch forms, and how they are compiled, cached and done without."""

import multiprocessing
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from trivd.models.frame_norm import FrameNormReLU
from trivd.models.recurrent import TSRU
from trivd.ops.cpu import library as compiled
from trivd.ops.differences import pooled_differences, pooling_windows
from trivd.ops.gates import Parts, mix
from trivd.ops.softmax import softmax
from trivd.ops.warp import warp

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
HAS_COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="this machine has no C++ compiler")


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    """Whatever a test did to the choice of kernels, the next one chooses anew."""
    yield
    compiled.kernels.cache_clear()


def plainly(work: Callable[[], list[Tensor]]) -> list[Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "kernels", dict)
        return work()


def assert_like_plain(work: Callable[[], list[Tensor]], dtype: torch.dtype) -> None:
    results = zip(work(), plainly(work), strict=True)
    for actual, expected in results:
        assert actual.dtype == expected.dtype == dtype
        scale = expected.abs().max().item() if expected.numel() else 1.0
        torch.testing.assert_close(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(scale, 1e-30))


def arranged(x: Tensor, layout: str) -> Tensor:
    """The same values, in another layout in memory."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    return x.transpose(2, 3).contiguous().transpose(2, 3) if layout == "transposed" else x


LAYOUTS = st.sampled_from(["channels_last", "contiguous", "transposed"])
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE))
SIZES = st.integers(1, 9)
# around and between multiples of the vector widths 8 and 16
CHANNELS = st.sampled_from([1, 3, 7, 8, 9, 15, 16, 17, 24, 33, 40, 67])
SHAPES = st.tuples(st.integers(1, 3), CHANNELS, SIZES, SIZES)


@needs_compiler
@DTYPES
@pytest.mark.parametrize("replicate", [False, True])
@given(
    k=st.sampled_from([1, 3, 5]), shape=st.tuples(st.integers(1, 3), CHANNELS, SIZES, SIZES), layout=LAYOUTS, of=LAYOUTS
)
@settings(max_examples=15)
def test_warp(
    dtype: torch.dtype, replicate: bool, k: int, shape: tuple[int, int, int, int], layout: str, of: str
) -> None:
    assert compiled.kernels()
    batch, _, height, width = shape
    features = arranged(torch.randn(shape).to(dtype), layout).requires_grad_()
    weights = arranged(torch.randn(batch, k * k, height, width).softmax(1).to(dtype), of).requires_grad_()
    gradient = arranged(torch.randn(shape).to(dtype), of)

    def work() -> list[Tensor]:
        warped = warp(features, weights, replicate)
        return [warped.detach(), *torch.autograd.grad(warped, [features, weights], gradient)]

    assert_like_plain(work, dtype)


@needs_compiler
@DTYPES
@given(channels=st.lists(CHANNELS, min_size=1, max_size=4), b=st.integers(1, 3), size=SIZES, layout=LAYOUTS)
@settings(max_examples=25)
def test_activated_parts(dtype: torch.dtype, channels: list[int], b: int, size: int, layout: str) -> None:
    parts = Parts(channels, ["tanh", "sigmoid", "identity", "relu"][: len(channels)])
    shape = (b, sum(channels), size, size + 1)
    raw, given = (arranged((3 * torch.randn(shape)).to(dtype), layout) for _ in range(2))
    gradients = [arranged(torch.randn(b, c, size, size + 1).to(dtype), layout) for c in channels]
    missing = [None, *gradients[1:]]
    outputs = plainly(lambda: list(parts.activate(raw, given)))

    assert_like_plain(lambda: list(parts.activate(raw, given)), dtype)
    assert_like_plain(lambda: list(parts.activate(raw[:, :, 0, 0], None)), dtype)
    assert_like_plain(lambda: [parts.backward(gradients, outputs), parts.backward(missing, outputs)], dtype)


@needs_compiler
@DTYPES
@given(c=CHANNELS, size=SIZES, layout=LAYOUTS, other=LAYOUTS)
@settings(max_examples=15)
def test_mix_and_softmax(dtype: torch.dtype, c: int, size: int, layout: str, other: str) -> None:
    content, past, gate = (torch.randn(2, c, size, 5).to(dtype) for _ in range(3))
    inputs = [arranged(content, layout), arranged(past, other), gate.sigmoid()]
    gradient = torch.randn(2, c, size, 5).to(dtype)

    def work() -> list[Tensor]:
        sources = [tensor.detach().requires_grad_() for tensor in inputs]
        mixed = mix(*sources)
        weights = softmax(3 * sources[0].movedim(1, -1))
        return [
            mixed.detach(),
            *torch.autograd.grad(mixed, sources, gradient),
            weights.detach(),
            *torch.autograd.grad(weights, sources[:1], gradient.movedim(1, -1)),
        ]

    assert_like_plain(work, dtype)


@needs_compiler
@DTYPES
@given(t=st.integers(1, 3), b=st.integers(1, 4), c=CHANNELS, size=SIZES, layout=LAYOUTS, of=LAYOUTS)
@settings(max_examples=15)
def test_frame_norm(dtype: torch.dtype, t: int, b: int, c: int, size: int, layout: str, of: str) -> None:
    """With the batch's own statistics, which may lie far from zero, and with standing ones."""
    norm = FrameNormReLU(t, c, None)
    norm.standing_mean.normal_()
    norm.standing_variance.uniform_(0.5, 2)
    if dtype == torch.float64:
        norm.double()
    x = arranged((20 + torch.randn(t * b, c, size, size + 9)).to(dtype), layout).unflatten(0, (t, b)).requires_grad_()
    affine = [torch.randn(b, c, dtype=norm.standing_mean.dtype, requires_grad=True) for _ in range(2)]
    gradient = arranged(torch.randn(t * b, c, size, size + 9).to(dtype), of).unflatten(0, (t, b))

    def work() -> list[Tensor]:
        results = []
        for training in (True, False):
            y = norm.train(training)(x, (affine[0], affine[1]))
            assert y.dtype == dtype
            for_x, *others = torch.autograd.grad(y, [x, *affine], gradient)
            results += [y.detach(), for_x, *(other.to(dtype) for other in others)]
        return results

    assert_like_plain(work, dtype)


@needs_compiler
@DTYPES
@given(b=st.integers(1, 3), c=st.integers(1, 5), width=st.integers(1, 3), h=SIZES, w=SIZES)
@settings(max_examples=15)
def test_pooled_differences(dtype: torch.dtype, b: int, c: int, width: int, h: int, w: int) -> None:
    """They are adaptive max-pooling of all differences; in bfloat16 many are equal."""
    now, before = (torch.randn(b, c, width, h, w).to(dtype).requires_grad_() for _ in range(2))
    gradient = torch.randn(b, c, c, width * 16).to(dtype)

    def work() -> list[Tensor]:
        pooled = pooled_differences(pooling_windows(now, 4), pooling_windows(before, 4))
        if dtype == torch.bfloat16:
            return [pooled.detach()]
        return [pooled.detach(), *torch.autograd.grad(pooled, [now, before], gradient)]

    assert_like_plain(work, dtype)
    differences = F.relu(now.unsqueeze(1) - before.unsqueeze(2)).flatten(0, 3)
    expected = F.adaptive_max_pool2d(differences, 4).view(b, c, c, -1)
    torch.testing.assert_close(work()[0], expected.detach(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@needs_compiler
@DTYPES
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activations_everywhere(dtype: torch.dtype, activation: str) -> None:
    """From the smallest to the largest numbers, relative to each; what is not finite stays what it is."""
    x = torch.cat([torch.logspace(-6, 38, 800), torch.linspace(0, 12, 801), torch.tensor([float("inf"), float("nan")])])
    x = torch.cat([x, -x]).to(dtype).view(-1, 1)
    (actual,) = Parts([1], [activation]).activate(x, None)
    expected = getattr(torch, activation)(x.double())
    accuracy = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2**-8}[dtype]
    torch.testing.assert_close(actual.double(), expected, rtol=accuracy, atol=1e-37, equal_nan=True)


@needs_compiler
def test_threads_change_nothing() -> None:
    h, weights = torch.randn(4, 64, 32, 32, requires_grad=True), torch.rand(4, 9, 32, 32, requires_grad=True)
    assert h.numel() >= compiled.WORTH_THREADS
    norm = FrameNormReLU(2, 64, None)

    def work() -> list[Tensor]:
        warped = warp(h, weights)
        y = norm(warped.unflatten(0, (2, 2)), (torch.ones(64), torch.zeros(64)))
        return [y.detach(), *torch.autograd.grad(y.square().sum(), [h, weights])]

    one = work()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        three = work()
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(one, three, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_tensors_that_kernels_do_not_take() -> None:
    shapes = [torch.empty(2, 3, device="meta") for _ in range(3)]
    assert mix(*shapes).shape == (2, 3)
    assert compiled.kernel("mix", torch.empty(1), torch.empty(1, dtype=torch.float64)) is None
    assert compiled.kernel("mix", torch.empty(1, dtype=torch.float16)) is None


# --- Compiling


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cached library, found again under a folder of the test's own, where nothing has been compiled yet."""
    compiled.kernels()
    library = compiled.cache_path()
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path))
    compiled.kernels.cache_clear()
    return library


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")


@pytest.mark.usefixtures("built")
def test_no_compiler_is_announced_once_and_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = TSRU(4, 4, flow="c").eval()
    x, state = torch.randn(3, 2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    expected = plainly(lambda: [unit(x, state)])[0]
    without_compiler(monkeypatch)
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler.*plain PyTorch form") as announced:
        results = [unit(x, state) for _ in range(2)]
    assert len(announced) == 1
    assert not compiled.kernels()
    for result in results:
        torch.testing.assert_close(result, expected, rtol=0, atol=0)


@pytest.mark.usefixtures("built")
def test_a_compiler_that_fails_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.warns(UserWarning, match=r"could not be compiled \(.*false.*status 1"):
        assert not compiled.kernels()


@needs_compiler
def test_what_was_compiled_once_needs_no_compiler(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = compiled.cache_path()
    destination.parent.mkdir()
    shutil.copy(built, destination)
    without_compiler(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled.kernels()


@needs_compiler
@pytest.mark.usefixtures("built")
def test_compiling_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "trivd")
    for _ in range(2):
        compiled.kernels.cache_clear()
        assert compiled.kernels()
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["Compiling the CPU kernels"]


def copy_without_checksum(library: Path, to: Path) -> None:
    """What the compiler would have written."""
    to.write_bytes(library.read_bytes()[:-32])


@needs_compiler
@pytest.mark.parametrize("damage", [lambda library: library[:1000], lambda library: b"", lambda library: library[::-1]])
def test_a_damaged_library_is_replaced(
    built: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    """It must not even be loaded: half a library ends the process with a bus error."""
    monkeypatch.setattr(compiled, "_compile", partial(copy_without_checksum, built))
    destination = compiled.cache_path()
    destination.parent.mkdir()
    destination.write_bytes(damage(built.read_bytes()))
    assert compiled.kernels()
    assert destination.read_bytes() == built.read_bytes()


@needs_compiler
def test_a_folder_that_cannot_be_written_is_done_without(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_compile", partial(copy_without_checksum, built))
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path / "file"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled.kernels()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(mix(x, x + 1, x.sigmoid()), torch.lerp(x, x + 1, x.sigmoid()))


@pytest.mark.usefixtures("built")
def test_plain_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVD_PLAIN", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not compiled.kernels()
    assert not compiled.cache_path().exists()


def _compile_and_use(results: "multiprocessing.Queue[float]") -> None:
    compiled.kernels.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled.kernels()
    results.put(mix(torch.zeros(5), torch.ones(5), torch.full((5,), 0.25)).sum().item())


@needs_compiler
@pytest.mark.usefixtures("built")
def test_two_processes_may_compile_at_once() -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_compile_and_use, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=600) for _ in processes] == [1.25, 1.25]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert [file.name for file in compiled.cache_path().parent.iterdir()] == [compiled.cache_path().name]
