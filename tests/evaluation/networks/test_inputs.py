"""I3D's inputs against the transforms of the other repositories, written plainly."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from trivd.config import EvaluationConfig, I3DInput
from trivd.evaluation.networks import choice
from trivd.evaluation.networks.i3d import I3D
from trivd.evaluation.networks.inputs import INPUTS, SIDE

Array = NDArray[np.float64]


def weights(before: int, after: int) -> Array:
    """Linear interpolation with half-pixel centres, repeated at the border, as a matrix (after, before)."""
    matrix = np.zeros((after, before))
    for number in range(after):
        place = min(max((number + 0.5) * before / after - 0.5, 0), before - 1)
        below = min(int(place), before - 1)
        matrix[number, below] += 1 - (place - below)
        matrix[number, min(below + 1, before - 1)] += place - below
    return matrix


def resized(video: Array, height: int, width: int) -> Array:
    """(B, T, H, W, C)."""
    down, across = weights(video.shape[2], height), weights(video.shape[3], width)
    return np.asarray(np.einsum("hy,btyxc,wx->bthwc", down, video, across, optimize=True))


def tats(video: Array) -> Array:
    """tats/fvd/fvd.py, preprocess; the same with rescale and resize of StyleGAN-V's detector."""
    return 2 * resized(video, 224, 224) / 255 - 1


def videogpt(video: Array) -> Array:
    """videogpt/data.py, preprocess."""
    height, width = video.shape[2:4]
    scale = 224 / min(height, width)
    size = (224, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), 224)
    whole = resized(video / 255, *size)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    return whole[:, :, top : top + 224, left : left + 224] - 0.5


def clips(height: int, width: int, channels: int) -> Tensor:
    rng = np.random.default_rng(height * width)
    return torch.from_numpy(rng.integers(256, size=(1, 2, height, width, channels), dtype=np.uint8))


@settings(max_examples=4, deadline=None)
@given(height=st.integers(40, 90), width=st.integers(40, 90), channels=st.sampled_from([1, 3]))
def test_inputs_are_those_of_the_other_repositories(height: int, width: int, channels: int) -> None:
    video = clips(height, width, channels)
    oracles: dict[I3DInput, Callable[[Array], Array]] = {"torch": tats, "videogpt": videogpt}
    for name, plain in oracles.items():
        found = INPUTS[name](video)
        assert found.shape == (1, 2, SIDE, SIDE, channels)
        np.testing.assert_allclose(found.numpy(), plain(video.double().numpy()), atol=1e-4)


def test_frames_of_the_right_size_are_only_scaled() -> None:
    video = clips(SIDE, SIDE, 3)
    before = video.clone()
    assert torch.allclose(INPUTS["torch"](video), INPUTS["reference"](video), atol=1e-6)
    assert torch.allclose(2 * INPUTS["videogpt"](video), INPUTS["reference"](video), atol=1e-6)
    assert torch.equal(video, before)


def test_figures_of_another_input_are_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> I3D:
        network = I3D.__new__(I3D)
        torch.nn.Module.__init__(network)
        network.distance, network.inception, network.about = "FVD", "IS", "I3D"
        network.fingerprint = ""
        return network

    monkeypatch.setattr(choice, "load_i3d", load)
    names = []
    for name, label in (("reference", ""), ("torch", ""), ("videogpt", "videogpt")):
        network = choice.choose_network(
            EvaluationConfig(features="i3d", i3d_input=name), [], torch.device("cpu"), label
        )  # type: ignore[arg-type]
        assert network is not None
        names.append((network.distance, network.about))
    assert names == [
        ("FVD", "I3D"),
        ("FVD (torch input)", "I3D, input torch"),
        ("FVD (videogpt)", "I3D, input videogpt"),
    ]
