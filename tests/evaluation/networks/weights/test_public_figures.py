"""Public FVDs of black against white clips, wherever the reference weights are installed (`trivd weights show`)."""

import pytest
import torch

from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.networks.weights.library import find_i3d, load_i3d

INSTALLED = find_i3d(None)


@pytest.mark.skipif(INSTALLED is None, reason="I3D's weights are not installed")
@pytest.mark.parametrize(("clips", "frames", "expected"), [(8, 30, 151.39), (16, 15, 133.9)])
def test_black_against_white(clips: int, frames: int, expected: float) -> None:
    network = load_i3d(INSTALLED, torch.device("cpu"))
    if network.distance != "FVD":
        pytest.skip("the installed weights are not the reference's")
    black, white = (
        network(torch.full((1, frames, 64, 64, 1), level, dtype=torch.uint8)).embedding.repeat(clips, 1)
        for level in (0, 255)
    )
    assert frechet_distance(black, white) == pytest.approx(expected, abs=0.05)
