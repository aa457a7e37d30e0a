"""Weights that are normalised all at once against each on its own, written plainly."""

import threading
from collections.abc import Callable

import pytest
import torch
from agreement import scramble
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.config import ModelConfig
from trivd.models import spectral_norm as normalization
from trivd.models.discriminators import Discriminator
from trivd.models.encoder import Encoder
from trivd.models.layers import ClassEmbedding, SNConv, SNLinear
from trivd.models.spectral_norm import SpectralNorm, normalized, normalized_now, use_normalized
from trivd.runtime.hardware import to_channels_last


def network(dtype: torch.dtype = torch.float64) -> nn.ModuleList:
    """Layers of every kind, two of them of the same shape, laid out as in training, in training mode."""
    layers = nn.ModuleList(
        [SNLinear(7, 4), SNConv(3, 5), SNConv(3, 5), SNConv(4, 4, 1), SNConv(2, 3, 3, 3), ClassEmbedding(5, 4)]
    )
    return to_channels_last(scramble(layers, dtype)).train()  # type: ignore[return-value]


def plain(layer: SpectralNorm, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, u and v after one use of a layer whose vectors were `left` and `right`."""
    matrix = layer.weight.reshape(layer.weight.shape[0], -1)
    if layer.training:
        with torch.no_grad():
            right = F.normalize(matrix.T @ left, dim=0)
            left = F.normalize(matrix @ right, dim=0)
    return layer.weight / (left @ matrix @ right), left, right


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("evaluated", [(), (0, 2), (0, 1, 2, 3, 4, 5)])
def test_together_is_as_each_on_its_own(evaluated: tuple[int, ...], dtype: torch.dtype) -> None:
    layers = network(dtype)
    for index in evaluated:
        layers[index].eval()
    expected = [plain(layer, layer.left.clone(), layer.right.clone()) for layer in layers]
    with normalized(layers):
        actual = [layer.normalized_weight() for layer in layers]
    directions = [torch.randn_like(weight) for weight in actual]
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    gradients = [
        torch.autograd.grad(sum((w * d).sum() for w, d in zip(weights, directions, strict=True)), layers_weights)
        for weights, layers_weights in (
            (actual, [layer.weight for layer in layers]),
            ([weight for weight, _, _ in expected], [layer.weight for layer in layers]),
        )
    ]
    for layer, weight, wanted, gradient, wanted_gradient in zip(layers, actual, expected, *gradients, strict=True):
        found = (weight, layer.left, layer.right, gradient)
        torch.testing.assert_close(found, (*wanted, wanted_gradient), rtol=tolerance, atol=tolerance)
        assert weight.stride() == layer.weight.stride()


def test_gradient_is_that_of_differences() -> None:
    layers = network().eval()  # u and v stay

    def weights(*values: Tensor) -> tuple[Tensor, ...]:
        for layer, value in zip(layers, values, strict=True):
            layer.weight = value  # not a Parameter, but a part of gradcheck's graph
        with normalized(layers):
            return tuple(layer.normalized_weight() for layer in layers)

    values = tuple(layer.weight.detach().clone().requires_grad_() for layer in layers)
    for layer in layers:
        del layer.weight
    assert torch.autograd.gradcheck(weights, values)


def test_a_layer_that_a_pass_does_not_use_gets_no_gradient() -> None:
    layers = network()
    layers[3].weight.requires_grad_(False)
    with normalized(layers):
        (layers[1].normalized_weight().sum() + layers[3].normalized_weight().sum()).backward()
    assert [layer.weight.grad is not None for layer in layers] == [False, True, False, False, False, False]


def test_later_iterations_do_not_disturb_an_earlier_gradient() -> None:
    layers = network()
    twin = network()
    twin.load_state_dict(layers.state_dict())
    results = []
    for module, again in ((layers, 0), (twin, 3)):
        with normalized(module):
            total = sum(layer.normalized_weight().pow(3).sum() for layer in module)
        for _ in range(again):
            with normalized(module):
                pass
        results.append(torch.autograd.grad(total, list(module.parameters()), allow_unused=True))
    for gradient, disturbed in zip(*results, strict=True):
        assert (gradient is None and disturbed is None) or torch.equal(gradient, disturbed)
    assert not torch.equal(layers[0].left, twin[0].left)


def test_one_iteration_within_however_often_it_is_used() -> None:
    layers = network()
    with normalized(layers[:3]):
        left = layers[0].left.clone()
        first = layers[0].normalized_weight()
        with normalized(layers):  # the rest
            assert layers[0].normalized_weight() is first
            layers[0].bind()
            assert set(normalized_now()) == set(layers)
        assert set(normalized_now()) == set(layers[:3])
        assert torch.equal(layers[0].left, left)
    assert not normalized_now()
    assert not torch.equal(layers[0].normalized_weight(), first)
    assert not torch.equal(layers[0].left, left)
    with use_normalized({layers[0]: first}):
        assert layers[0].normalized_weight() is first


def test_an_error_within_leaves_nothing_behind() -> None:
    layers = network()
    with pytest.raises(ZeroDivisionError), normalized(layers):
        raise ZeroDivisionError
    assert not normalized_now()


def test_other_threads_have_passes_of_their_own() -> None:
    layers = network().eval()
    seen: list[int] = []
    with normalized(layers):
        thread = threading.Thread(target=lambda: seen.append(len(normalized_now())))
        thread.start()
        thread.join()
    assert seen == [0]


@pytest.mark.parametrize("name", ["discriminator", "temporal discriminator", "encoder"])
def test_a_pass_of_a_network_iterates_every_layer_once_and_together(
    name: str, tiny_model: Callable[..., ModelConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "encoder":
        model: nn.Module = Encoder(tiny_model(), {8: 4, 32: 2})
        inputs: tuple[Tensor, ...] = (torch.rand(2, 2, 3, 32, 32),)
    else:
        model = Discriminator(3, 2, 3, temporal=name == "temporal discriminator")
        inputs = torch.rand(2, 4, 3, 16, 16), torch.tensor([0, 2])
    layers = [layer for layer in scramble(model, torch.float32).modules() if isinstance(layer, SpectralNorm)]
    model.train()
    expected = [plain(layer, layer.left.clone(), layer.right.clone())[1] for layer in layers]
    groups: list[int] = []
    normalize = normalization._normalize
    monkeypatch.setattr(normalization, "_normalize", lambda group: groups.append(len(group)) or normalize(group))
    model(*inputs)
    assert groups == [len(layers)]
    for layer, left in zip(layers, expected, strict=True):
        torch.testing.assert_close(layer.left, left, rtol=1e-4, atol=1e-5)
