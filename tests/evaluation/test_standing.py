"""Standing statistics against averages of batch statistics, written plainly (E.2)."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trivd.config import ModelConfig
from trivd.data.loader import Batch
from trivd.evaluation.standing import POWER_ITERATIONS, collect_standing_statistics
from trivd.models.frame_norm import FrameNormReLU
from trivd.models.generator import Generator
from trivd.models.spectral_norm import SpectralNorm
from trivd.runtime.pixels import to_float


def batches(count: int, size: int = 3) -> list[Batch]:
    rng = torch.Generator().manual_seed(1)
    shape = (size, 4, 32, 32, 3)
    return [
        Batch(torch.randint(256, shape, generator=rng, dtype=torch.uint8), torch.zeros(size, dtype=torch.int64))
        for _ in range(count)
    ]


@pytest.fixture
def generator(tiny_model: Callable[..., ModelConfig]) -> Generator:
    generator = Generator(tiny_model())
    for parameter in generator.parameters():  # away from orthogonality, where singular vectors would not matter
        torch.nn.init.normal_(parameter, std=0.2)
    for layer in generator.modules():
        if isinstance(layer, SpectralNorm):
            layer.power_iteration(300)
    return generator


def collect(generator: Generator, data: list[Batch], seed: int = 0, truncation: float | None = None) -> None:
    collect_standing_statistics(generator, data, torch.Generator().manual_seed(seed), torch.float32, truncation)


def norms(generator: Generator) -> dict[str, FrameNormReLU]:
    return {name: module for name, module in generator.named_modules() if isinstance(module, FrameNormReLU)}


def test_they_are_the_averages_of_batch_means_and_variances(generator: Generator) -> None:
    seen: dict[str, list[Tensor]] = {name: [] for name in norms(generator)}
    for name, norm in norms(generator).items():
        norm.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].double()))
    collect(generator, batches(3))
    assert len(seen) == 9  # two in each of the two blocks of two stages, and the last
    for name, norm in norms(generator).items():
        assert len(seen[name]) == 3
        means, variances = [], []
        for x in seen[name]:  # (T, B, C, H, W)
            mean = torch.stack([x[t].transpose(0, 1).flatten(1).mean(dim=1) for t in range(len(x))])
            centred = x - mean[:, None, :, None, None]
            means.append(mean)
            variances.append(centred.square().mean(dim=(1, 3, 4)))
        expected_mean, expected_variance = sum(means) / 3, sum(variances) / 3
        torch.testing.assert_close(norm.standing_mean.double(), expected_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.standing_variance.double(), expected_variance, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(norm.standing_mean[0], norm.standing_mean[1])  # each time step has its own


def test_weights_normalised_once_change_nothing(generator: Generator) -> None:
    """Bit for bit what each batch gives with weights of its own."""
    again = copy.deepcopy(generator)
    collect(generator, batches(3))
    rng = torch.Generator().manual_seed(0)
    for layer in again.eval().modules():
        if isinstance(layer, SpectralNorm):
            layer.power_iteration(POWER_ITERATIONS)
    for norm in norms(again).values():
        norm.collect(True)
    with torch.no_grad():
        for batch in batches(3):
            again(to_float(batch.video[:, :2]), torch.randn(3, 4, generator=rng), batch.labels)
    for norm, other in zip(norms(generator).values(), norms(again).values(), strict=True):
        assert torch.equal(norm.standing_mean, other.standing_mean)
        assert torch.equal(norm.standing_variance, other.standing_variance)


def plain_latents(count: int, dim: int, rng: torch.Generator, truncation: float | None) -> Tensor:
    """A normal distribution cut off at +-truncation, from the same random numbers, by its distribution function."""
    if truncation == 0:
        return torch.zeros(count, dim)
    z = torch.randn(count, dim, generator=rng)
    if truncation is None:
        return z
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    low, high = normal.cdf(torch.tensor([-truncation, truncation], dtype=torch.float64))
    inside = normal.icdf(low + torch.rand(count, dim, generator=rng, dtype=torch.float64) * (high - low))
    return torch.where(z.abs() <= truncation, z, inside.float())


@pytest.mark.parametrize("truncation", [None, 0.8, 0.0])
def test_they_are_those_of_the_truncation(generator: Generator, truncation: float | None) -> None:
    """Means over batches that a copy normalises by statistics of their own, as in training."""
    plain, data, rng = copy.deepcopy(generator).train(), batches(2), torch.Generator().manual_seed(3)
    seen: dict[str, list[Tensor]] = {name: [] for name in norms(plain)}
    for name, norm in norms(plain).items():
        norm.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].double()))
    with torch.no_grad():
        for batch in data:
            frames = batch.video[:, :2].permute(0, 1, 4, 2, 3) / 127.5 - 1
            plain(frames, plain_latents(3, generator.config.latent_dim, rng, truncation), batch.labels)
    collect(generator, data, 3, truncation)
    for name, norm in norms(generator).items():
        means = sum(x.mean(dim=(1, 3, 4)) for x in seen[name]) / 2
        variances = sum(x.var(dim=(1, 3, 4), correction=0) for x in seen[name]) / 2
        torch.testing.assert_close(norm.standing_mean.double(), means, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(norm.standing_variance.double(), variances, rtol=1e-3, atol=1e-4)


def test_truncation_changes_them(generator: Generator) -> None:
    found = []
    for truncation in (None, 0.8, 0.0):
        collect(generator, batches(2), 3, truncation)
        found.append(generator.output_norm.standing_variance.clone())
    assert all(not torch.allclose(found[i], found[j], rtol=1e-2) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_they_are_collected_afresh(generator: Generator) -> None:
    collect(generator, batches(2))
    first = [norm.standing_mean.clone() for norm in norms(generator).values()]
    weights = {name: parameter.detach().clone() for name, parameter in generator.named_parameters()}
    collect(generator, batches(1))
    assert not any(torch.allclose(n.standing_mean, f) for n, f in zip(norms(generator).values(), first, strict=True))
    collect(generator, batches(2))  # nothing is left of what was between
    for norm, mean in zip(norms(generator).values(), first, strict=True):
        torch.testing.assert_close(norm.standing_mean, mean, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in generator.named_parameters())


def test_afterwards_a_prediction_does_not_depend_on_its_batch(generator: Generator) -> None:
    collect(generator, batches(2))
    assert not generator.training
    frames, z = torch.rand(3, 2, 3, 32, 32) * 2 - 1, torch.randn(3, 4)
    before = [norm.standing_mean.clone() for norm in norms(generator).values()]
    with torch.no_grad():
        together = generator(frames, z).video
        alone = torch.cat([generator(frames[i : i + 1], z[i : i + 1]).video for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(n.standing_mean, b) for n, b in zip(norms(generator).values(), before, strict=True))


def test_singular_values_fit_the_weights(generator: Generator) -> None:
    """An average of weights has singular vectors of its own; the estimate must not be that of other weights."""
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    collect(generator, batches(1))
    ratios = []
    for layer in generator.modules():
        if isinstance(layer, SpectralNorm):
            ratios.append(torch.linalg.matrix_norm(layer.normalized_weight().flatten(1), 2).item())
    assert max(ratios) == pytest.approx(1, abs=0.1)
    assert min(ratios) == pytest.approx(1, abs=0.1)
