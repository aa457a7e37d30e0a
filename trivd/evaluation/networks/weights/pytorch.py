"""PyTorch's files as named arrays: state dicts of torch.save, safetensors, and the tensors of TorchScript archives.

Not through torch.load: with weights_only=True it runs nothing of a file either, but lets it take any memory and time.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trivd.evaluation.networks.weights.archives import open_zip, read_archive
from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, FloatArray, check_size
from trivd.evaluation.networks.weights.pickles import LARGEST_PICKLE, Content, Reference, read_content
from trivd.evaluation.networks.weights.torchscript import is_torchscript, read_torchscript
from trivd.evaluation.networks.weights.views import read_views
from trivd.runtime.errors import TrivdError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")  # keys of training files
DEEPEST = 8  # wrappers around each other
ITEM_BYTES = dict(
    **dict.fromkeys(("BoolStorage", "ByteStorage", "CharStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage"), 8),
)
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of files of PyTorch before 1.6


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
        with _refusals(path):
            root, load, size = read_archive(archive)
            return read_views(_state_dict(root, path), load, size)


def read_pickle(path: Path) -> dict[str, FloatArray]:
    """The same for files of torch.save before PyTorch 1.6: five pickles, then the storages one after another.

    Raises:
        TrivdError: it is damaged, too large, or holds more than tensors and plain containers.
    """
    check_size(path)
    with _refusals(path), path.open("rb") as file:
        head = io.BytesIO(file.read(LARGEST_PICKLE))
        if (read_content(head).root, read_content(head).root) != (MAGIC, VERSION):
            raise ValueError("it is no file of torch.save")
        system, content, keys = (read_content(head) for _ in range(3))
        if not isinstance(system.root, dict) or system.root.get("little_endian") is not True:
            raise ValueError("its numbers are big-endian")
        places = _places(file, head.tell(), keys.root, content)

        def load(key: str) -> bytes:
            position, size = places[key]
            file.seek(position)
            return file.read(size)

        return read_views(_state_dict(content.root, path), load, path.stat().st_size)


def _places(file: IO[bytes], position: int, keys: Any, content: Content) -> dict[str, tuple[int, int]]:
    """Where the storages' bytes lie, and how many; before each is the number of its elements."""
    places: dict[str, tuple[int, int]] = {}
    end = file.seek(0, io.SEEK_END)
    for key in keys:
        storage = content.storages.get(key) if isinstance(key, str) else None
        if storage is None or key in places:
            raise ValueError("its list of storages is not that of its tensors")
        file.seek(position)
        elements = int.from_bytes(file.read(8), "little")
        size = elements * ITEM_BYTES[storage.kind]
        places[key] = position + 8, size
        position += 8 + size
        if position > end or elements != storage.elements:
            raise ValueError("a storage is cut off")
    return places


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except TrivdError:
        raise
    except Exception as error:  # a hostile or damaged file can fail in any way
        reason = str(error).split("\n", 1)[0][:200]
        raise TrivdError(
            f"{path} cannot be read as tensors alone ({type(error).__name__}: {reason}); "
            "save the model's state_dict() with torch.save."
        ) from error


def _state_dict(loaded: Any, path: Path) -> dict[str, Reference]:
    """The dict of tensors in what was loaded, which may be wrapped in a training run's dict."""
    for _ in range(DEEPEST):  # a pickle can put a dict into itself
        if not isinstance(loaded, dict):
            raise TrivdError(
                f"{path} holds a {type(loaded).__name__}, not named tensors; save the model's state_dict()."
            )
        tensors = {
            name: value for name, value in loaded.items() if isinstance(value, Reference) and isinstance(name, str)
        }
        if tensors:
            return tensors
        wrapper = next((key for key in WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if wrapper is None:
            break
        loaded = loaded[wrapper]
    names = str([str(name)[:30] for name in list(loaded)[:5]])
    raise TrivdError(f"{path} holds no tensors, only {names}; save the model's state_dict() alone.")


def _arrays(tensors: Mapping[str, Tensor], path: Path) -> dict[str, FloatArray]:
    wanted = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if sum(tensor.numel() for tensor in wanted.values()) * 4 > LARGEST_BYTES:
        raise TrivdError(f"{path} holds far more numbers than I3D's 12.7 million weights; name the right file.")
    return {name: np.ascontiguousarray(tensor.float().numpy()) for name, tensor in wanted.items()}
