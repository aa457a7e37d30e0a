"""The losses of appendix E against their formulas, written out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trivd.config import ModelConfig
from trivd.models.generator import Generator
from trivd.models.layers import ClassEmbedding, SNConv, SNLinear
from trivd.models.spectral_norm import SpectralNorm
from trivd.ops.cuda import library
from trivd.training.losses import (
    discriminator_hinge,
    diversity,
    generator_hinge,
    orthogonality_penalty,
    reconstruction_l1,
)


def relu(x: float) -> float:
    return x if x > 0 else 0.0


@pytest.mark.parametrize("shape", [(7,), (3, 3, 4)])  # outputs of a projection head, and of a mixed one
def test_hinge_losses_are_equations_13_and_14(shape: tuple[int, ...]) -> None:
    real, fake = 2 * torch.randn(shape), 2 * torch.randn(shape)
    outputs = list(zip(real.flatten().tolist(), fake.flatten().tolist(), strict=True))
    discriminator = sum(relu(1 + of_fake) + relu(1 - of_real) for of_real, of_fake in outputs) / len(outputs)
    generator = -sum(of_fake for _, of_fake in outputs) / len(outputs)
    assert discriminator_hinge(real, fake).item() == pytest.approx(discriminator, rel=1e-5)
    assert generator_hinge(fake).item() == pytest.approx(generator, rel=1e-5)


def test_hinge_losses_pull_the_right_way() -> None:
    real, fake = torch.tensor([0.0, 2.0], requires_grad=True), torch.tensor([0.0, -2.0], requires_grad=True)
    discriminator_hinge(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [-0.5, 0.0]  # raised until it is 1
    assert fake.grad.tolist() == [0.5, 0.0]  # lowered until it is -1


def off_diagonal(weight: Tensor) -> Tensor:
    matrix = weight.detach().double().flatten(1)
    return matrix @ matrix.T * (1 - torch.eye(len(matrix), dtype=torch.float64))


def shaken(module: nn.Module) -> nn.Module:
    """Weights start orthogonal, where the penalty is 0: move them away."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.fixture(params=[False, True], ids=["apart", "together"])
def _ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU, where each weight is computed by itself, and as on a GPU."""
    monkeypatch.setattr(library, "fused", lambda x, module=None: request.param and module is None)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "wide": lambda: SNLinear(9, 4),
    "tall": lambda: SNLinear(3, 20),
    "convolution": lambda: SNConv(2, 5),
    "tall convolution": lambda: SNConv(1, 24, 3),
    "convolution over time": lambda: SNConv(2, 3, 3, 3),
    "first affine": lambda: nn.Linear(6, 40),
}


@pytest.mark.usefixtures("_ways")
@pytest.mark.parametrize("name", LAYERS)
def test_penalty_and_gradient_of_one_layer(name: str) -> None:
    layer = shaken(LAYERS[name]())
    weight: Tensor = layer.weight  # type: ignore[assignment]
    penalty = orthogonality_penalty(nn.Sequential(layer))
    assert penalty.item() == pytest.approx(off_diagonal(weight).square().sum().item(), rel=1e-5)
    penalty.backward()
    analytic = 4 * off_diagonal(weight) @ weight.detach().double().flatten(1)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.double().flatten(1), analytic, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_ways")
def test_penalty_covers_every_weight_of_the_generator_but_the_embedding(
    tiny_model: Callable[..., ModelConfig],
) -> None:
    generator = shaken(Generator(tiny_model(classes=3)))
    layers = [layer for layer in generator.modules() if isinstance(layer, (SpectralNorm, nn.Linear))]
    assert any(len(layer.weight) > layer.weight[0].numel() for layer in layers)  # tall ones are among them
    counted = [layer for layer in layers if not isinstance(layer, ClassEmbedding)]
    assert len(counted) == len(layers) - 1
    # Nothing with rows and columns hides in another kind of layer.
    matrices = {name for name, parameter in generator.named_parameters() if parameter.dim() > 1}
    assert len(matrices) == len(layers)

    penalty = orthogonality_penalty(generator)
    expected = sum(off_diagonal(layer.weight).square().sum().item() for layer in counted)
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    embedding = next(layer for layer in layers if isinstance(layer, ClassEmbedding))
    assert embedding.weight.grad is None
    assert all(layer.weight.grad is not None for layer in counted)


@pytest.mark.usefixtures("_ways")
@pytest.mark.parametrize("name", LAYERS)
def test_penalty_of_bfloat16_products_is_as_exact_as_these(name: str) -> None:
    layer = shaken(LAYERS[name]())
    weight: Tensor = layer.weight  # type: ignore[assignment]
    exact = orthogonality_penalty(nn.Sequential(layer))
    (expected,) = torch.autograd.grad(exact, weight)
    penalty = orthogonality_penalty(nn.Sequential(layer), torch.bfloat16)
    assert penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx(exact.item(), rel=2**-7)
    (gradient,) = torch.autograd.grad(penalty, weight)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, expected, rtol=0, atol=2**-6 * expected.abs().max().item())


@pytest.mark.usefixtures("_ways")
def test_penalty_is_zero_for_orthogonal_rows_of_any_length() -> None:
    layer = SNLinear(6, 4)  # starts orthogonal
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([0.5, 1.0, 2.0, 3.0])[:, None])
    assert orthogonality_penalty(nn.Sequential(layer)).item() == pytest.approx(0, abs=1e-4)


def test_penalty_stays_exact_under_autocast() -> None:
    module = nn.Sequential(shaken(SNLinear(8, 8)))
    expected = orthogonality_penalty(module)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(orthogonality_penalty(module), expected)


def test_reconstruction_is_the_distance_of_the_mean_sample() -> None:
    samples, truth = torch.rand(3, 2, 2, 1, 4, 4), torch.rand(2, 2, 1, 4, 4)
    flat = samples.flatten(1)
    distances = [abs(flat[:, i].sum().item() / 3 - truth.flatten()[i].item()) for i in range(truth.numel())]
    assert reconstruction_l1(samples, truth).item() == pytest.approx(sum(distances) / len(distances), rel=1e-5)
    assert reconstruction_l1(truth[None], truth).item() == 0


@pytest.mark.parametrize("count", [2, 3])
def test_diversity_is_the_mean_ratio_of_distances(count: int) -> None:
    """Of every two samples of a clip, `-our_term` of the authors' code; z has no gradient."""
    samples, z = torch.rand(count, 2, 2, 1, 3, 3, requires_grad=True), torch.randn(count, 2, 4)

    def distance(a: Tensor, b: Tensor) -> float:
        pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
        return sum(abs(x - y) for x, y in pairs) / len(pairs)

    ratios = [
        distance(samples[i, clip], samples[j, clip]) / distance(z[i, clip], z[j, clip])
        for clip in range(2)
        for i in range(count)
        for j in range(i)
    ]
    found = diversity(samples, z)
    assert found.item() == pytest.approx(sum(ratios) / len(ratios), rel=1e-5)
    moved = samples.detach() + 1e-3 * torch.autograd.grad(found, samples)[0].sign()
    assert diversity(moved, z) > found
