"""DGMR's ConvGRU and generator from the package `dgmr`, the closest maintained relative of this model.

Only the modules of its networks are imported: the package itself needs TensorFlow, Lightning and more, which they do
not use.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from trivd.runtime.errors import TrivdError
from trivd.training.plan import flops

HOW_TO_GET = "not installed: pip install --no-deps dgmr==1.4.4 einops huggingface_hub"
GIVEN_FRAMES = 4  # frames that its context stack takes
MULTIPLE = 32  # divides its context channels, which are halved and divided by the given frames several times
FEWEST = 160  # context channels below which its latent stack cannot be built
TRIAL = 256  # context channels whose FLOPs are counted first, to find the width with as many as ours


def find_dgmr() -> Path | None:
    """The folder of the installed package, without importing it."""
    found = importlib.util.find_spec("dgmr") if "dgmr" not in sys.modules else sys.modules["dgmr"].__spec__
    places = found.submodule_search_locations if found is not None else None
    return Path(next(iter(places))) if places else None


def dgmr_conv_gru(channels: int) -> nn.Module | None:
    """Its ConvGRU, x (T, B, C, H, W) and state (B, C, H, W) -> (T, B, C, H, W); None if it is not installed."""
    folder = find_dgmr()
    if folder is None:
        return None
    spec = importlib.util.spec_from_file_location("dgmr_conv_gru", folder / "layers" / "ConvGRU.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    unit: nn.Module = module.ConvGRU(2 * channels, channels)  # its first argument counts the channels of [x; h]
    return unit


def dgmr_generator(context_channels: int, frames: int, resolution: int) -> nn.Module:
    """Its generator: 4 grey frames (B, 4, 1, R, R) -> `frames` grey ones, in the proportions of its defaults.

    Raises:
        TrivdError: `dgmr` is not installed, or a package that its networks need.
    """
    common, generators = _submodule("common"), _submodule("generators")
    latent = (8, resolution // 32, resolution // 32)
    network: nn.Module = generators.Generator(
        common.ContextConditioningStack(1, context_channels, GIVEN_FRAMES),
        common.LatentConditioningStack(latent, 2 * context_channels),
        generators.Sampler(frames, 2 * context_channels, context_channels, 1),
    )
    return network.eval()


def context_channels_for(target: int, frames: int, clip: Tensor) -> int:
    """The width with which its generator's FLOPs for a clip (1, 4, 1, R, R) are nearest to `target`."""
    trial = dgmr_generator(TRIAL, frames, clip.shape[-1])
    width = TRIAL * (target / flops(lambda: trial(clip))) ** 0.5  # FLOPs grow with its square
    return max(FEWEST, MULTIPLE * round(width / MULTIPLE))


def _submodule(name: str) -> Any:
    """A module of the package, which itself is not executed."""
    folder = find_dgmr()
    if folder is None:
        raise TrivdError(f"dgmr is {HOW_TO_GET}.")
    package = ModuleType("dgmr")
    package.__path__ = [str(folder)]
    package.__spec__ = importlib.util.spec_from_file_location(
        "dgmr", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules.setdefault("dgmr", package)
    try:
        return importlib.import_module(f"dgmr.{name}")
    except ImportError as error:
        raise TrivdError(f"dgmr's networks cannot be imported: {error}; pip install einops huggingface_hub.") from error
