"""The tensors of a TorchScript archive, read as data: neither its code nor its pickle runs anything.

Layout: torch/csrc/jit/docs/serialization.md. `data.pkl` is a pickle of modules (named attributes) whose tensors refer
to storages, files of raw numbers. A pickle is a program; this reader lets it build tensors' descriptions, dicts, lists,
tuples, numbers, strings and inert bags of attributes, and refuses every other class, function and opcode.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivd.errors import TrivdError
from trivd.evaluation.weights.limits import LARGEST_BYTES, FloatArray, check_size
from trivd.files import unpacked_sizes

DATA = "data.pkl"
LARGEST_PICKLE = 1 << 24  # bytes; I3D's has 0.2 MB
LONGEST_NAME = 1 << 10  # characters of a tensor's path
LARGEST_RATIO = 20  # of unpacked to packed bytes, for entries over a megabyte; PyTorch stores tensors as they are
DATA_TYPES = {"HalfStorage": "<f2", "FloatStorage": "<f4", "DoubleStorage": "<f8"}  # others are not weights
OPCODES = frozenset(
    (
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    )
)  # what PyTorch writes


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip file, after a look at the sizes that its entries say they unpack to.

    Raises:
        TrivdError: it is damaged, or unpacks to far more than I3D's weights.
    """
    check_size(path)
    try:
        archive = zipfile.ZipFile(path)
        unpacked = sum(unpacked_sizes(archive))
    except Exception as error:  # zipfile has half a dozen ways to fail on damaged files
        raise TrivdError(f"{path} is a damaged zip file: {error}; fetch it again.") from error
    entries = archive.infolist()
    bomb = any(entry.file_size > max(1 << 20, LARGEST_RATIO * entry.compress_size) for entry in entries)
    if bomb or unpacked > LARGEST_BYTES:
        archive.close()
        raise TrivdError(f"{path} unpacks to far more than I3D's weights are; do not trust this file.")
    return archive


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a PyTorch file holds a program beside its tensors."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(archive: zipfile.ZipFile, path: Path) -> dict[str, FloatArray]:
    """All float16, float32 and float64 tensors as float32, by the dotted names of their attributes.

    Args:
        archive: of `open_zip`.
        path: where it lies, for errors.

    Raises:
        TrivdError: it is damaged, or its pickle asks for anything but tensors and plain containers.
    """
    try:
        data = _only(archive, DATA)
        root = data.filename.removesuffix(DATA)
        if data.file_size > LARGEST_PICKLE:
            raise ValueError(f"{data.filename} has {data.file_size:,} bytes")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        references = _named_tensors(_unpickle(archive.read(data)))
        remaining = LARGEST_BYTES
        tensors: dict[str, FloatArray] = {}
        for name, reference in references.items():
            if not isinstance(reference.storage, _Storage) or reference.storage.kind not in DATA_TYPES:
                continue
            array = _materialise(archive, root, reference)
            remaining -= array.nbytes
            if remaining < 0:
                raise ValueError("its tensors overlap")
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused later
                tensors[name] = array.astype(np.float32)
        return tensors
    except Exception as error:  # a hostile pickle can fail in any way, in the interpreter's own unpickler too
        reason = str(error)[:200]
        raise TrivdError(f"{path} is not a TorchScript archive of plain tensors, or damaged: {reason}.") from error


class _Storage(NamedTuple):
    """A file of numbers in the archive."""

    kind: str  # the class in PyTorch
    key: Any  # its name below data/; checked before it is used, as all that follows
    elements: Any


class _Reference(NamedTuple):
    """A tensor as a view of a storage. Whatever the pickle said: `_materialise` checks it."""

    storage: Any
    offset: Any  # elements
    shape: Any
    strides: Any  # elements


class _Bag:
    """Stands in for a module: keeps its attributes, does nothing."""

    __slots__ = ("attributes",)

    def __setstate__(self, attributes: Any) -> None:
        self.attributes = attributes


class _RebuildTensor:
    """Stands in for torch._utils._rebuild_tensor_v2. Without slots, so that no pickle can change it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> _Reference:
        return _Reference(storage, offset, shape, strides)


class _First:
    """Stands in for functions that only put a type on their first argument."""

    __slots__ = ()

    def __call__(self, value: Any, *_rest: Any) -> Any:
        return value


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _First(),
    ("torch.jit._pickle", "build_intlist"): _First(),
    ("torch.jit._pickle", "build_doublelist"): _First(),
    ("torch.jit._pickle", "build_boollist"): _First(),
    ("torch.jit._pickle", "build_tensorlist"): _First(),
    ("torch.jit._pickle", "restore_type_tag"): _First(),
}


class _Unpickler(pickle.Unpickler):
    """Finds nothing but what `ALLOWED` holds, storages' names, and bags for the archive's own classes."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Bag
        if module == "torch" and name.endswith("Storage"):
            return name
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        label, kind, key, _device, elements = pid
        if label != "storage" or not isinstance(kind, str):
            raise pickle.UnpicklingError("it refers to something other than a tensor's storage")
        return _Storage(kind, key, elements)


def _unpickle(data: bytes) -> Any:
    for opcode, argument, _ in pickletools.genops(data):  # only reads
        if opcode.name not in OPCODES:
            raise ValueError(f"its pickle uses {opcode.name}, which weights do not need")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > len(data):  # the memo gets as long
            raise ValueError("its pickle counts more objects than it has")
    return _Unpickler(io.BytesIO(data)).load()


def _named_tensors(root: Any) -> dict[str, _Reference]:
    """Tensors below an object by their dotted path, in the pickle's order; each container is entered once."""
    found: dict[str, _Reference] = {}
    seen: set[int] = set()
    pending = [("", root)]
    while pending:
        path, value = pending.pop()
        if len(path) > LONGEST_NAME:
            raise ValueError("its modules are nested too deep")
        if isinstance(value, _Reference):
            found[path] = value
            continue
        if isinstance(value, _Bag):
            value = getattr(value, "attributes", None)  # without BUILD it has none
        if isinstance(value, dict):
            children = list(value.items())
        elif isinstance(value, list | tuple):
            children = list(enumerate(value))
        else:
            continue
        if id(value) not in seen:
            seen.add(id(value))
            pending += [
                (f"{path}.{name}" if path else str(name), child)
                for name, child in reversed(children)
                if isinstance(name, str | int)
            ]
    return found


def _materialise(archive: zipfile.ZipFile, root: str, reference: _Reference) -> NDArray[np.floating[Any]]:
    """A tensor's numbers: a view of its storage's bytes."""
    storage = reference.storage
    if not isinstance(reference.shape, tuple) or not isinstance(reference.strides, tuple):
        raise ValueError("a tensor has no shape")
    numbers = (storage.elements, reference.offset, *reference.shape, *reference.strides)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a tensor's shape is not of numbers")
    if len(reference.shape) != len(reference.strides) or math.prod(reference.shape) > storage.elements:
        raise ValueError("a tensor is larger than its storage")
    dtype = np.dtype(DATA_TYPES[storage.kind])
    data = archive.read(f"{root}data/{storage.key}")
    if len(data) != storage.elements * dtype.itemsize:
        raise ValueError(f"data/{storage.key} has {len(data):,} bytes, not {storage.elements:,} numbers")
    steps = zip(reference.shape, reference.strides, strict=True)
    last = reference.offset + sum((size - 1) * stride for size, stride in steps)  # element
    if 0 in reference.shape or last >= storage.elements:
        raise ValueError("a tensor reaches beyond its storage, or is empty")
    strides = [stride * dtype.itemsize for stride in reference.strides]
    flat = np.frombuffer(data, dtype, offset=reference.offset * dtype.itemsize)
    return np.lib.stride_tricks.as_strided(flat, reference.shape, strides, writeable=False)


def _only(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The one entry of this name, in whichever top folder."""
    found = [entry for entry in archive.infolist() if entry.filename.split("/")[1:] == [name]]
    if len(found) != 1:
        raise ValueError(f"it holds {len(found)} files {name}, but should hold one")
    return found[0]
