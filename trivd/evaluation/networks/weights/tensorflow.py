"""TensorFlow's checkpoints read without TensorFlow: `X.index`, a table of names, and the bytes in `X.data-...`.

The "tensor bundle" of version 2: tensorflow/core/util/tensor_bundle/tensor_bundle.h and tensor_bundle.proto.
"""

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import google_crc32c
import numpy as np

from trivd.evaluation.networks.weights.leveldb import read_table, unmasked, varint
from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, FloatArray, read_limited
from trivd.evaluation.networks.weights.tar import read_tar
from trivd.runtime.errors import TrivdError

INDEX = ".index"
SHARD_NAME = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
HUB_INDEX = "variables/variables.index"  # in the folder of a TF-Hub module
DATA_TYPES = {1: "f4", 2: "f8", 19: "f2"}  # of tensorflow/core/framework/types.proto; others are not weights
MOST_DIMENSIONS = 8
LONGEST_DIMENSION = 1 << 31
MOST_SHARDS = 1000
MOST_FILES = 10_000  # and folders in an archive; a TF-Hub module has ten
LARGEST_RATIO = 20  # of unpacked to packed bytes, for archives that unpack to over 16 MB
LARGEST_INDEX = 1 << 24  # bytes; I3D's has 15 kB


@dataclass
class _Header:
    """BundleHeaderProto."""

    shards: int = 1
    big_endian: bool = False


@dataclass
class _Entry:
    """BundleEntryProto: where a tensor's bytes lie."""

    data_type: int = 0
    shape: list[int] = field(default_factory=list)
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


def read_archive(path: Path) -> dict[str, FloatArray]:
    """The same of the one checkpoint in a .tar.gz, such as a TF-Hub module's; it is unpacked in memory only.

    Raises:
        TrivdError: it is damaged, too large, holds a path that leaves it, or not one checkpoint.
    """
    files = _unpack(path)
    found = [name for name in files if name.endswith(INDEX)]
    if len(found) != 1:
        raise TrivdError(f"{path} holds {len(found)} TensorFlow checkpoints (files *{INDEX}); it must be one.")
    index = PurePosixPath(found[0])

    def load(name: str) -> bytes:
        try:
            return files[str(index.with_name(name))]
        except KeyError as error:
            raise TrivdError(f"{path} lacks {index.with_name(name)}; fetch it again.") from error

    return _read_bundle(index.name, load, f"{path}: {index}")


def _unpack(path: Path) -> dict[str, bytes]:
    """The regular files of a .tar.gz by their path in it."""
    try:
        largest = min(LARGEST_BYTES, max(1 << 24, LARGEST_RATIO * path.stat().st_size))
        with gzip.open(path) as packed:
            data = packed.read(largest + 1)
        if len(data) > largest:
            raise TrivdError(f"{path} unpacks to more than {largest:,} bytes, so it is not I3D.")
        files = {}
        for number, (name, content) in enumerate(read_tar(data)):
            if number == MOST_FILES:
                raise TrivdError(f"{path} holds more than {MOST_FILES:,} files, so it is not I3D.")
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts:
                raise TrivdError(f"{path} holds {name!r}, which leads out of it; do not trust this file.")
            if content is not None:
                files[str(inside)] = content
        return files
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise TrivdError(f"{path} is not a .tar.gz of a TF-Hub module, or damaged: {error}.") from error


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
    if google_crc32c.value(data) != unmasked(entry.crc32c):
        raise ValueError(f"the checksum of {name} is wrong")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused as a weight
        return np.frombuffer(data, dtype).reshape(entry.shape).astype(np.float32)


def _read_header(message: bytes) -> _Header:
    header = _Header()
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            raise ValueError("it is a checkpoint of TensorFlow's version 1 format; save it again with tf.train.Saver()")
        if number == 1:
            header.shards = _integer(value)
        elif number == 2:
            header.big_endian = _integer(value) == 1
    if not 1 <= header.shards <= MOST_SHARDS:
        raise ValueError(f"it says that it has {header.shards:,} files of data")
    return header


def _read_entry(message: bytes) -> _Entry:
    entry = _Entry()
    for number, value in _fields(message):
        if number == 1:
            entry.data_type = _integer(value)
        elif number == 2:
            entry.shape = _read_shape(_bytes(value))
        elif number == 3:
            entry.shard = _integer(value)
        elif number == 4:
            entry.offset = _integer(value)
        elif number == 5:
            entry.size = _integer(value)
        elif number == 6:
            entry.crc32c = _integer(value)
        elif number == 7:
            entry.sliced = True
    return entry


def _read_shape(message: bytes) -> list[int]:
    """TensorShapeProto: field 2 is a dimension, whose field 1 is its size, left out where that is 0."""
    shape = []
    for number, value in _fields(message):
        if number == 2:
            sizes = [_integer(size) for field_number, size in _fields(_bytes(value)) if field_number == 1]
            shape.append(sizes[-1] if sizes else 0)
    return shape


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = varint(message, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = varint(message, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {wire_type}")
        content = message[position : position + size]
        position += size
        if len(content) != size:
            raise ValueError("a field is cut off")
        yield number, content if wire_type == 2 else int.from_bytes(content, "little")


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a field that should be a number is not")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a field that should be a message is not")
    return value
