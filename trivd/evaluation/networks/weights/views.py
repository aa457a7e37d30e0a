"""Tensors of PyTorch's files from the bytes of their storages, each of which is read once."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, FloatArray
from trivd.evaluation.networks.weights.pickles import Reference

DATA_TYPES = {  # others are not weights
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # the upper half of a float32
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
}
LARGEST_SHARE = (
    4  # bytes of all tensors per byte of the file's contents: float16 doubles, and tensors may share storages
)


def read_views(
    references: Mapping[str, Reference], load: Callable[[str], bytes], file_bytes: int
) -> dict[str, FloatArray]:
    """The floating-point tensors as float32.

    Args:
        references: by name.
        load: gives a storage's bytes by its key.
        file_bytes: of all storages at most; overlapping tensors may not make megabytes of a small file.

    Raises:
        ValueError: a tensor is not within its storage, or they overlap.
    """
    remaining = min(LARGEST_BYTES, max(1 << 20, LARGEST_SHARE * file_bytes))
    storages: dict[str, bytes] = {}
    tensors: dict[str, FloatArray] = {}
    for name, reference in references.items():
        storage = reference.storage
        if storage.kind not in DATA_TYPES:
            continue
        remaining -= 4 * math.prod(reference.shape)
        if remaining < 0:
            raise ValueError("its tensors overlap, or are larger than the file")
        if storage.key not in storages:
            storages[storage.key] = load(storage.key)
        tensors[name] = _view(reference, storages[storage.key])
    return tensors


def _view(reference: Reference, data: bytes) -> FloatArray:
    storage = reference.storage
    if math.prod(reference.shape) > storage.elements:
        raise ValueError("a tensor is larger than its storage")
    dtype = np.dtype(DATA_TYPES[storage.kind])
    if len(data) != storage.elements * dtype.itemsize:
        raise ValueError(f"a storage has {len(data):,} bytes, not {storage.elements:,} numbers")
    steps = zip(reference.shape, reference.strides, strict=True)
    last = reference.offset + sum((size - 1) * stride for size, stride in steps)  # element
    if 0 in reference.shape or last >= storage.elements:
        raise ValueError("a tensor reaches beyond its storage, or is empty")
    strides = [stride * dtype.itemsize for stride in reference.strides]
    flat = np.frombuffer(data, dtype, offset=reference.offset * dtype.itemsize)
    view = np.lib.stride_tricks.as_strided(flat, reference.shape, strides, writeable=False)
    if storage.kind == "BFloat16Storage":
        return np.ascontiguousarray(view.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused later
        return view.astype(np.float32)
