"""PyTorch's files as named arrays: state dicts of torch.save, safetensors, and the tensors of TorchScript archives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trivd.errors import TrivdError
from trivd.evaluation.weights.limits import LARGEST_BYTES, FloatArray, check_size
from trivd.evaluation.weights.torchscript import is_torchscript, open_zip, read_torchscript

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")  # keys of training files


def read_safetensors(path: Path) -> dict[str, FloatArray]:
    """All floating-point tensors of a safetensors file as float32, by name.

    Raises:
        TrivdError: it is damaged, or too large.
    """
    check_size(path)
    try:
        return _arrays(load_file(path), path)
    except (SafetensorError, OSError) as error:
        raise TrivdError(f"{path} is a damaged safetensors file: {error}; fetch it again.") from error


def read_zip(path: Path) -> dict[str, FloatArray]:
    """All floating-point tensors of torch.save's or torch.jit.save's file as float32, by name; runs nothing in it.

    Raises:
        TrivdError: it is damaged, too large, or holds more than tensors.
    """
    with open_zip(path) as archive:
        if is_torchscript(archive):
            return read_torchscript(archive, path)
    return read_pickle(path)


def read_pickle(path: Path) -> dict[str, FloatArray]:
    """The same for files of torch.save, those of PyTorch before 1.6 too, through torch's restricted reader.

    Raises:
        TrivdError: it is damaged, too large, or holds more than tensors and plain containers.
    """
    check_size(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load lets through whatever a damaged file makes it stumble over
        reason = str(error).split("\n", 1)[0]
        raise TrivdError(
            f"{path} cannot be read as tensors alone ({type(error).__name__}: {reason}); "
            "save the model's state_dict() with torch.save."
        ) from error
    return _arrays(_state_dict(loaded, path), path)


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The dict of tensors in what was loaded, which may be wrapped in a training run's dict."""
    while isinstance(loaded, Mapping):
        tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor) and isinstance(name, str)}
        if tensors:
            return tensors
        wrapper = next((key for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if wrapper is None:
            raise TrivdError(f"{path} holds no tensors, only {list(loaded)[:5]}; save the model's state_dict() alone.")
        loaded = loaded[wrapper]
    raise TrivdError(f"{path} holds a {type(loaded).__name__}, not named tensors; save the model's state_dict().")


def _arrays(tensors: Mapping[str, Tensor], path: Path) -> dict[str, FloatArray]:
    wanted = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.layout == torch.strided and tensor.device.type == "cpu"
    }
    if sum(tensor.numel() for tensor in wanted.values()) * 4 > LARGEST_BYTES:  # expanded ones need not fill a file
        raise TrivdError(f"{path} holds far more numbers than I3D's 12.7 million weights; name the right file.")
    return {name: np.ascontiguousarray(tensor.detach().float().numpy()) for name, tensor in wanted.items()}
