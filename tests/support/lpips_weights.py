"""Made-up weights of LPIPS, under the names of torchvision and of the package `lpips`."""

import numpy as np
from numpy.typing import NDArray

from trivd.evaluation.networks.lpips import BACKBONES, BackboneName

Arrays = dict[str, NDArray[np.float32]]


def made_up(name: BackboneName, seed: int = 0) -> tuple[Arrays, Arrays]:
    """A backbone whose features neither vanish nor explode, and heads from 0 on, as the real ones."""
    rng = np.random.default_rng(seed)
    weights = {
        key: (rng.normal(size=shape) * (2 / max(np.prod(shape[1:]), 4)) ** 0.5).astype(np.float32)
        for key, shape in BACKBONES[name].shapes().items()
    }
    heads = {key: rng.random(shape, np.float32) for key, shape in BACKBONES[name].head_shapes().items()}
    return weights, heads
