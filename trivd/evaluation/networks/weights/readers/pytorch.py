"""PyTorch's files as named arrays: state dicts of torch.save, safetensors, and the tensors of TorchScript archives."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, FloatArray, check_size
from trivd.evaluation.networks.weights.readers.archives import copy_data, is_torchscript, open_zip
from trivd.evaluation.networks.weights.readers.child import PROGRAM, SAVED
from trivd.evaluation.networks.weights.readers.sandbox import load_in_child
from trivd.runtime.errors import TrivdError, is_disk_full


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

    Tensors of a program are named by the dotted names of their attributes.

    Raises:
        TrivdError: it is damaged, too large, or holds more than tensors and plain containers.
    """
    with open_zip(path) as archive, tempfile.TemporaryDirectory(prefix="trivd-weights-") as folder, _refusals(path):
        copy = Path(folder) / "copy.pt"
        copy_data(archive, copy)
        return load_in_child(copy, PROGRAM if is_torchscript(archive) else SAVED)


def read_legacy(path: Path) -> dict[str, FloatArray]:
    """All floating-point tensors of a file of torch.save before PyTorch 1.6 as float32, by name; runs nothing in it.

    Raises:
        TrivdError: it is damaged, too large, or holds more than tensors and plain containers.
    """
    check_size(path)
    with _refusals(path):
        return load_in_child(path.absolute(), SAVED)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a hostile or damaged file can fail in any way
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        raise TrivdError(
            f"{path} cannot be read as tensors alone ({error}); save the model's state_dict() with torch.save."
        ) from error


def _arrays(tensors: Mapping[str, Tensor], path: Path) -> dict[str, FloatArray]:
    wanted = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if sum(tensor.numel() for tensor in wanted.values()) * 4 > LARGEST_BYTES:
        raise TrivdError(f"{path} holds far more numbers than I3D's 12.7 million weights; name the right file.")
    return {name: np.ascontiguousarray(tensor.float().numpy()) for name, tensor in wanted.items()}
