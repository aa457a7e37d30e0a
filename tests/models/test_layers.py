"""Layers with spectral normalisation, by hand and in whole networks."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from agreement import assert_same, average_pool, plainly, scramble
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from reference import layers as plain_layers
from trivd.config import DiscriminatorConfig, ModelConfig, Unit
from trivd.models.discriminators import Discriminators
from trivd.models.frame_norm import FrameNormReLU
from trivd.models.generator import Generator
from trivd.models.layers import ClassEmbedding, SNConv, SNLinear
from trivd.models.spectral_norm import SpectralNorm
from trivd.ops import upsample
from trivd.ops.residual import biased

ModelFactory = Callable[..., ModelConfig]

LAYERS: dict[str, Callable[[], SpectralNorm]] = {
    "wide": lambda: SNLinear(7, 4),
    "tall": lambda: SNLinear(3, 8),
    "conv": lambda: SNConv(3, 5),
    "1x1": lambda: SNConv(4, 4, 1),
    "conv3d": lambda: SNConv(2, 3, 3, 3),
    "embedding": lambda: ClassEmbedding(5, 4),
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def matrix(layer: SpectralNorm) -> Tensor:
    return layer.weight.detach().reshape(layer.weight.shape[0], -1)


@each_layer
def test_training_drives_the_largest_singular_value_to_one(make: Callable[[], SpectralNorm]) -> None:
    layer = scramble(make())
    off = torch.linalg.svdvals(layer.normalized_weight().flatten(1))[0]
    layer.train()
    for _ in range(500):
        weight = layer.normalized_weight()
    largest = torch.linalg.svdvals(weight.flatten(1))[0]
    torch.testing.assert_close(largest, torch.ones_like(largest), rtol=1e-9, atol=0)
    assert abs(off - 1) > 1e-3  # it was not so before
    torch.testing.assert_close(weight.flatten(1), matrix(layer) / torch.linalg.svdvals(matrix(layer))[0])


@each_layer
def test_each_training_use_is_one_power_iteration(make: Callable[[], SpectralNorm]) -> None:
    layer = scramble(make()).train()
    w, u = matrix(layer), layer.left.clone()
    v = w.T @ u / (w.T @ u).norm()
    u = w @ v / (w @ v).norm()
    weight = layer.normalized_weight()
    torch.testing.assert_close(weight.flatten(1), w / (u @ w @ v))
    torch.testing.assert_close((layer.left, layer.right), (u, v))


@each_layer
def test_evaluation_leaves_the_estimate_alone(make: Callable[[], SpectralNorm]) -> None:
    layer = scramble(make())
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    first, second = layer.normalized_weight(), layer.normalized_weight()
    assert set(before) == {"left", "right"}
    for name, buffer in layer.named_buffers():
        assert torch.equal(buffer, before[name])
    assert torch.equal(first, second)


@each_layer
def test_gradient_flows_through_sigma(make: Callable[[], SpectralNorm]) -> None:
    """d<G, W / sigma> / dW = G / sigma - <G, W> / sigma^2 u v^T, where sigma = u^T W v."""
    layer = scramble(make()).train()
    direction = torch.randn_like(layer.weight)
    functional = (layer.normalized_weight() * direction).sum()
    u, v = layer.left.clone(), layer.right.clone()
    layer.normalized_weight()  # moves u and v, which must not disturb the first use's gradient
    assert not torch.equal(layer.left, u)
    (gradient,) = torch.autograd.grad(functional, layer.weight)
    g, w = direction.flatten(1), matrix(layer)
    sigma = u @ w @ v
    expected = g / sigma - (g * w).sum() / sigma**2 * torch.outer(u, v)
    torch.testing.assert_close(gradient.flatten(1), expected, rtol=1e-10, atol=1e-10)
    zero = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close((gradient * layer.weight).sum(), zero)  # growing W changes nothing


@each_layer
def test_weights_start_orthogonal(make: Callable[[], SpectralNorm]) -> None:
    w = matrix(make())
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "dimensions"), [(1, 2), (3, 2), (5, 2), (1, 3), (3, 3)])
def test_convolution_keeps_the_size_and_learns_an_offset(size: int, dimensions: int) -> None:
    layer = scramble(SNConv(3, 4, size, dimensions))
    x = torch.randn(2, 3, *(5, 6, 7)[:dimensions], dtype=torch.float64, requires_grad=True)
    assert layer(x).shape == (2, 4, *x.shape[2:])
    plain = plainly(plain_layers.conv(3, 4, size, dimensions), layer)
    assert_same([layer(x)], [plain(x)], [x, layer.weight, layer.bias])


@pytest.mark.parametrize(("size", "outputs"), [(1, 4), (3, 4), (3, 2), (5, 4)])
@given(height=st.integers(1, 6), width=st.integers(1, 6))
@settings(max_examples=6)
def test_upsampled_is_the_convolution_of_repeated_pixels(size: int, outputs: int, height: int, width: int) -> None:
    layer = scramble(SNConv(3, outputs, size))
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    plain = plainly(plain_layers.conv(3, outputs, size), layer)
    expected = plain(x.repeat_interleave(2, -2).repeat_interleave(2, -1))
    assert_same([biased(layer.upsampled(x))], [expected], [x, layer.weight, layer.bias])


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("frames", "pool_time"), [(None, False), (5, False), *((t, True) for t in (1, 2, 3, 4, 5))])
@pytest.mark.parametrize("pixels", [(2, 4), (4, 8), (8, 8), (10, 16)])  # before and after the forms change
def test_pooled_is_the_convolution_and_then_means(
    size: int, frames: int | None, pool_time: bool, pixels: tuple[int, int]
) -> None:
    dimensions = 2 if frames is None else 3
    layer = scramble(SNConv(3, 4, size, dimensions))
    shape = (2, 3, *pixels) if frames is None else (2, 3, frames, *pixels)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = average_pool(plainly(plain_layers.conv(3, 4, size, dimensions), layer)(x))
    if pool_time and frames is not None and frames > 1:
        expected = (expected[:, :, : frames // 2 * 2 : 2] + expected[:, :, 1::2]) / 2
    assert_same([biased(layer.pooled(x, pool_time))], [expected], [x, layer.weight, layer.bias])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_pooling_clips_keeps_time_type_and_layout(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 5, 4, 6).contiguous(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample.average_pool(x.bfloat16()).dtype == torch.bfloat16
    pooled = upsample.average_pool(x)
    torch.testing.assert_close(pooled, average_pool(x))
    assert pooled.is_contiguous(memory_format=torch.channels_last_3d) == (layout == torch.channels_last_3d)


def test_linear_is_affine_in_its_normalised_weight() -> None:
    layer = scramble(SNLinear(5, 3))
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = x @ layer.normalized_weight().T + layer.bias
    assert_same([layer(x)], [expected], [x, layer.weight, layer.bias])


def test_bound_layers_iterate_once() -> None:
    layer = scramble(SNConv(3, 3)).train()
    call = layer.bind()
    left = layer.left.clone()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(call(x), call(x))
    assert torch.equal(layer.left, left)
    layer(x)
    assert not torch.equal(layer.left, left)


def test_autocast_does_not_round_the_estimate() -> None:
    layer = scramble(SNConv(3, 5), torch.float32).train()
    twin = scramble(SNConv(3, 5), torch.float32).train()
    twin.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer.normalized_weight()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, twin.normalized_weight(), rtol=0, atol=0)


def test_class_embedding_is_linear_in_the_one_hot_class() -> None:
    layer = scramble(ClassEmbedding(5, 3))
    labels = torch.tensor([4, 0, 2, 2])
    one_hot = F.one_hot(labels, 5).double()
    assert_same([layer(labels)], [one_hot @ layer.normalized_weight().T], [layer.weight])
    assert layer.bias is None


def test_without_classes_the_embedding_is_one_constant_vector() -> None:
    layer = ClassEmbedding(0, 3)
    rows = layer(torch.tensor([0, 7, -1]))
    assert rows.shape == (3, 3)
    assert (rows == rows[0]).all()
    assert rows[0].norm() > 0


# --- Whole networks: "all linear and convolutional layers in the entire model" (A)


def generator_call(config: ModelConfig) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = Generator(config)
    shape = (2, config.conditioning_frames, config.image_channels, config.resolution, config.resolution)
    frames, z = torch.rand(shape) * 2 - 1, torch.randn(2, config.latent_dim)
    labels = torch.zeros(2, dtype=torch.int64)
    for norm in model.modules():
        if isinstance(norm, FrameNormReLU):
            norm.collect(True)
    return model, lambda: model(frames, z, labels).video


def discriminators_call(config: ModelConfig, decomposition: str) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = Discriminators(DiscriminatorConfig(decomposition=decomposition, frames=2), config)
    video = torch.rand(2, config.frames, 3, config.resolution, config.resolution) * 2 - 1

    def call() -> Tensor:
        rng = torch.Generator().manual_seed(0)
        labels = torch.zeros(2, dtype=torch.int64)
        totals = []
        for view, discriminator in model.items():
            seen = model.cut(view, video, model.draw_places(view, video.shape, rng))
            totals.append(torch.cat(discriminator(seen, labels), 1).sum())
        return torch.stack(totals)

    return model, call


NETWORKS: dict[str, Callable[[ModelFactory], tuple[nn.Module, Callable[[], Tensor]]]] = {
    f"G-{unit}": (lambda make, unit=unit: generator_call(make(unit=unit, classes=3))) for unit in get_args(Unit)
}
NETWORKS["G-read_gate"] = lambda make: generator_call(make(unit="tsru_p", read_gate=True))
NETWORKS |= {
    f"D-{name}": (lambda make, name=name: discriminators_call(make(classes=3), name))
    for name in ("dvd_gan_fp", "stronger")
}


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_every_weight_of_a_network_is_normalised(
    build: Callable[[ModelFactory], tuple[nn.Module, Callable[[], Tensor]]], tiny_model: ModelFactory
) -> None:
    """Every weight but G's first belongs to a spectral norm, starts orthogonal, and is used normalised."""
    model, call = build(tiny_model)
    model.eval()
    for path, module in model.named_modules():
        own = {name: p for name, p in module.named_parameters(recurse=False) if p.dim() > 1}
        assert not own or isinstance(module, SpectralNorm) or path == "first"
        for weight in own.values():
            w = weight.detach().flatten(1)
            gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
            torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-4)

    before = call()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, SpectralNorm):
                layer.weight.mul_(3)
    torch.testing.assert_close(call(), before, rtol=1e-4, atol=3e-5)  # rounded elsewhere
    if isinstance(model, Generator):
        with torch.no_grad():
            model.first.weight.mul_(3)
        assert (call() - before).abs().max() > 1e-4
