"""Choice of the network in whose features the videos of a data set are compared."""

from pathlib import Path

import torch

from trivd.config import EvaluationConfig
from trivd.data.clips import ClipDataset, DigitClips
from trivd.evaluation.networks.digits import load_digits_network
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.networks.lpips import Lpips
from trivd.evaluation.networks.weights.library import find_i3d, load_i3d
from trivd.evaluation.networks.weights.perceptual import find_lpips, load_lpips


def choose_lpips(settings: EvaluationConfig, resolution: int, device: torch.device) -> Lpips | None:
    """The network of LPIPS of `settings.lpips`, on `device`.

    "auto" takes a backbone whose weights were imported and that can see frames of that size, AlexNet before VGG.

    Args:
        settings: of the evaluation.
        resolution: of the frames, pixels.
        device: of the network.

    Raises:
        TrivdError: a backbone is asked for that has no weights, or cannot see such frames; or a file is damaged.
    """
    if settings.lpips == "none":
        return None
    name = find_lpips(resolution) if settings.lpips == "auto" else settings.lpips
    if name is None:
        return None
    network = load_lpips(name, device)
    network.check_size(resolution, resolution)
    return network


def choose_network(
    settings: EvaluationConfig, data: ClipDataset, device: torch.device, label: str = ""
) -> FeatureNetwork | None:
    """The feature network of `settings.features`, on `device`.

    "auto" takes the digits' classifier for moving-digits, and for other data I3D if its weights were imported.

    Args:
        settings: of the evaluation.
        data: whose clips are compared.
        device: of the network.
        label: of the figures if I3D's input is not the reference's; "" names that input.

    Raises:
        TrivdError: I3D is asked for and has no weights, or its file is damaged.
    """
    weights = None if settings.i3d_weights is None else Path(settings.i3d_weights)
    is_auto = settings.features == "auto"
    if settings.features == "moving-digits" or (is_auto and isinstance(data, DigitClips)):
        return load_digits_network(device)
    if settings.features == "i3d" or (is_auto and find_i3d(weights) is not None):
        network = load_i3d(weights, device)
        if settings.i3d_input == "reference":
            return network
        return network.with_input(settings.i3d_input, label or f"{settings.i3d_input} input")
    return None
