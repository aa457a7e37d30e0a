"""All weights of a network normalised in a few kernels against each on its own, written plainly."""

from collections.abc import Sequence

import pytest
import torch
from agreement import scramble
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from triton_checks import DEVICES, triton_on

from benchmarks.launches import Work, launches
from trivd.models.blocks import recompute_blocks
from trivd.models.discriminators import Discriminator
from trivd.models.layers import ClassEmbedding, SNConv, SNLinear
from trivd.models.spectral_norm import SpectralNorm, normalized
from trivd.ops import spectral
from trivd.runtime.hardware import to_channels_last


def layer(kind: str, inputs: int, outputs: int, size: int) -> SpectralNorm:
    if kind == "linear":
        return SNLinear(inputs, outputs)
    if kind == "classes":
        return ClassEmbedding(inputs, outputs)
    return SNConv(inputs, outputs, size, 3 if kind == "clips" else 2, folded=kind == "folded")


LAYERS = st.tuples(
    st.sampled_from(["linear", "classes", "images", "folded", "clips"]),
    st.integers(1, 9),
    st.integers(1, 70),
    st.sampled_from([1, 3]),
)


def plain(layer: SpectralNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, u and v after one use of the layer in training."""
    matrix = layer.weight.flatten(1)
    with torch.no_grad():
        right = F.normalize(matrix.mT @ layer.left, dim=0)
        left = F.normalize(matrix @ right, dim=0)
    return layer.weight / (left @ matrix @ right), left, right


def gradients(layers: nn.ModuleList, values: Sequence[Tensor], directions: dict[int, Tensor]) -> list[Tensor | None]:
    """Gradients of all layers' own weights, of a functional of some of the normalised ones."""
    total = sum((values[index] * direction).double().sum() for index, direction in directions.items())
    return list(torch.autograd.grad(total, [layer.weight for layer in layers], allow_unused=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("device", DEVICES)
@given(
    kinds=st.lists(LAYERS, min_size=1, max_size=5),
    low=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    unused=st.integers(0, 5),
)
@settings(max_examples=15)
def test_together_is_as_each_on_its_own(
    device: torch.device, kinds: Sequence[tuple[str, int, int, int]], low: torch.dtype, unused: int
) -> None:
    """`low` is the type of convolutions that are not folded: autocast's, or float32 or float64 throughout."""
    dtype = torch.float64 if low == torch.float64 else torch.float32
    layers = nn.ModuleList(layer(*kind) for kind in kinds)
    layers = to_channels_last(scramble(layers, dtype)).to(device).train()
    expected = [plain(layer) for layer in layers]
    with triton_on(device):
        with torch.autocast(device.type, low, enabled=low != dtype), normalized(layers):
            actual = [layer.normalized_weight() for layer in layers]
        used = [index for index in range(len(layers)) if index != unused] or [0]
        directions = {index: torch.randn_like(actual[index]) for index in used}
        found = gradients(layers, actual, directions)
    wanted = gradients(layers, [weight for weight, _, _ in expected], directions)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for layer_, weight, (plain_weight, left, right) in zip(layers, actual, expected, strict=True):
        rounded = 1e-2 if weight.dtype == torch.bfloat16 else tolerance
        assert weight.dtype == (dtype if layer_.exact else low)
        assert weight.stride() == layer_.weight.stride()
        torch.testing.assert_close(weight.to(dtype), plain_weight, rtol=rounded, atol=tolerance)
        torch.testing.assert_close((layer_.left, layer_.right), (left, right), rtol=tolerance, atol=tolerance)
    for weight, a, b in zip(actual, found, wanted, strict=True):
        if a is None or b is None:
            assert a is b
            continue
        near = 1e-2 if weight.dtype == torch.bfloat16 else tolerance
        torch.testing.assert_close(a, b, rtol=near, atol=near * (b.abs().max().item() + 1))
        assert a.dtype == dtype


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_is_that_of_differences(device: torch.device) -> None:
    weights = [
        torch.randn(4, 3, 3, 3, dtype=torch.float64, device=device).contiguous(memory_format=torch.channels_last),
        torch.randn(3, 5, dtype=torch.float64, device=device),
    ]
    u, v, _, sigmas = spectral.plain_iterate(weights, [torch.randn(n, device=device).double() for n in (4, 3)])
    small = [weight.clone().requires_grad_() for weight in weights]
    with triton_on(device):
        divided = spectral._DivideTogether.apply(torch.float64, u, v, sigmas, *small)
        gradient = [torch.randn_like(weight) for weight in divided]
        found = torch.autograd.grad(divided, small, gradient)
    for index, weight in enumerate(weights):
        direction = torch.randn_like(weight)

        def functional(change: float, index: int = index, direction: Tensor = direction) -> Tensor:
            """<G, W / sigma> for fixed u and v."""
            moved = [w + change * direction if i == index else w for i, w in enumerate(weights)]
            matrices = [spectral.as_matrix(w) for w in moved]
            us, vs = u.split([len(m) for m in matrices]), v.split([m.shape[1] for m in matrices])
            sigma = [a @ m @ b for m, a, b in zip(matrices, us, vs, strict=True)]
            return sum((g * w / s).sum() for g, w, s in zip(gradient, moved, sigma, strict=True))  # type: ignore[return-value]

        slope = (functional(1e-5) - functional(-1e-5)) / 2e-5
        torch.testing.assert_close((found[index] * direction).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_discriminators_are_those_of_a_cpu(device: torch.device, temporal: bool, recompute: bool) -> None:
    network = to_channels_last(scramble(Discriminator(3, 2, 3, temporal=temporal, pool_time=True)).to(device)).train()
    if recompute:
        recompute_blocks(network)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    video, labels = torch.rand(2, 4, 3, 16, 16, device=device).double(), torch.tensor([0, 2], device=device)

    def step() -> list[Tensor]:
        scores = network(video.requires_grad_(), labels)
        gradients = torch.autograd.grad(sum(part.square().sum() for part in scores), [*network.parameters(), video])
        return [*scores, *gradients, *(value.clone() for value in network.buffers())]

    with triton_on(device):
        ours = step()
    network.load_state_dict(state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trivd.ops.cuda.library.fused", lambda x, module: False)
        expected = step()
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * max(1.0, b.abs().max().item()))


@pytest.mark.parametrize("device", DEVICES)
def test_what_does_not_fit_is_normalised_one_by_one(device: torch.device) -> None:
    """Weights in PyTorch's own layout, and evaluation."""
    for layers, training in ((scramble(SNConv(3, 4)), True), (to_channels_last(scramble(SNConv(3, 4))), False)):
        layers = layers.to(device).train(training)
        expected = plain(layers)[0] if training else None
        left = layers.left.clone()
        with triton_on(device):
            weight = layers.normalized_weight()
        if expected is not None:
            torch.testing.assert_close(weight, expected)
        assert torch.equal(layers.left, left) != training


def network(depth: int) -> nn.Module:
    return to_channels_last(nn.ModuleList(SNConv(4, 4, folded=index % 2 == 0) for index in range(depth))).train()


@pytest.mark.parametrize("depth", [2, 8])
def test_the_number_of_kernels_is_that_of_one_layer(depth: int) -> None:
    layers = network(depth)
    with launches(triton=True) as counter, torch.autocast("cpu", torch.bfloat16), normalized(layers):
        total = sum(layer.normalized_weight().sum() for layer in layers)
    counts = counter.by_kind()
    assert counts[Work.OURS] == 6  # four for the vectors, one for each type
    assert counts[Work.LISTS] == 1
    with launches(triton=True) as counter:
        total.backward()  # type: ignore[union-attr]
    counts = counter.by_kind()
    assert counts[Work.OURS] == 4
    assert counts[Work.LISTS] == 2
