"""LPIPS is Eq 1 of Zhang et al. 2018 on torchvision's layers, and what the package `lpips` computes, where it is."""

from collections.abc import Iterator

import pytest
import torch
from lpips_weights import Arrays, made_up
from torch import Tensor, nn

from trivd.evaluation.networks.lpips import BackboneName, Lpips
from trivd.runtime.errors import TrivdError

LAYERS = {  # torchvision's `features`: channels of convolutions, "P" for pools, "*" after what LPIPS looks at
    "alex": (64, "*", "P", 192, "*", "P", 384, "*", 256, "*", 256, "*"),
    "vgg": (64, 64, "*", "P", 128, 128, "*", "P", *(256,) * 3, "*", "P", *(512,) * 3, "*", "P", *(512,) * 3, "*"),
}


def plain_features(name: str, weights: Arrays, frames: Tensor) -> Iterator[Tensor]:
    """By modules of PyTorch, one frame at a time."""
    number = 0
    for layer in LAYERS[name]:
        if layer == "*":
            yield frames
        elif layer == "P":
            frames = nn.MaxPool2d(3 if name == "alex" else 2, 2)(frames)
            number += 1
        else:
            weight = torch.from_numpy(weights[f"features.{number}.weight"])
            size = weight.shape[-1]
            step, padding = (4, 2) if size == 11 else (1, size // 2)
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], size, step, padding)
            convolution.weight.data, convolution.bias.data = (  # type: ignore[union-attr]
                weight,
                torch.from_numpy(weights[f"features.{number}.bias"]),
            )
            frames = convolution(frames).relu()
            number += 2


@torch.no_grad()
def plain(name: str, weights: Arrays, heads: Arrays, first: Tensor, second: Tensor) -> float:
    """The distance of two frames (3, H, W), place by place."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    inputs = [((frame - shift.view(3, 1, 1)) / scale.view(3, 1, 1))[None] for frame in (first, second)]
    total = 0.0
    stages = zip(*(plain_features(name, weights, frame) for frame in inputs), heads.values(), strict=True)
    for a, b, head in stages:
        a, b = (nn.functional.normalize(features, dim=1, eps=1e-10) for features in (a, b))
        total += float(((a - b) ** 2 * torch.from_numpy(head)).sum(dim=1).mean())
    return total


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_it_is_the_paper_s_distance(name: BackboneName) -> None:
    weights, heads = made_up(name)
    network = Lpips(name, weights, heads, "made up")
    rng = torch.Generator().manual_seed(0)
    prediction, truth = (torch.rand(1, 2, 3, 33, 40, generator=rng) * 2 - 1 for _ in range(2))
    found = network(prediction, truth)
    assert found.shape == (1, 2)
    for frame in range(2):
        expected = plain(name, weights, heads, prediction[0, frame], truth[0, frame])
        assert float(found[0, frame]) == pytest.approx(expected, rel=1e-5)
    assert float(network(truth, truth).abs().max()) == 0
    grey = truth[:, :1, :1]
    assert torch.equal(network(grey, -grey), network(grey.expand(-1, -1, 3, -1, -1), -grey.expand(-1, -1, 3, -1, -1)))
    with pytest.raises(TrivdError, match=r"needs frames of at least .* set evaluation\.lpips to none"):
        network.features(torch.zeros(1, 1, 3, 15, 64))
    smallest = torch.zeros(1, 1, 3, network.backbone.smallest, network.backbone.smallest)
    assert all(features.numel() for features in network.features(smallest))


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_it_is_the_package_s_distance(name: BackboneName) -> None:
    lpips = pytest.importorskip("lpips", exc_type=ImportError)  # it needs torchvision
    theirs = lpips.LPIPS(net=name, pnet_rand=True, verbose=False)
    layers = {number: layer for part in theirs.net.children() for number, layer in part.named_children()}
    weights = {
        f"features.{number}.{kind}": value.detach().numpy()
        for number, layer in layers.items()
        for kind, value in layer.named_parameters()
    }
    heads = {key: value.numpy() for key, value in theirs.state_dict().items() if key.startswith("lin")}
    prediction, truth = torch.rand(2, 1, 3, 3, 64, 64) * 2 - 1
    found = Lpips(name, weights, heads, "random")(prediction, truth)
    expected = theirs(prediction[0], truth[0]).view(1, 3)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-4)
