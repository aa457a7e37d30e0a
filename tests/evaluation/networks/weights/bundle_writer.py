"""Writes tables and checkpoints from the descriptions of their formats, for tests of the readers."""

from collections.abc import Mapping
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

MAGIC = bytes.fromhex("57fb808b247547db")
DATA_TYPES = {"float32": 1, "float64": 2, "int64": 9, "float16": 19}


def number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def masked(data: bytes) -> bytes:
    """The checksum that is stored for some bytes."""
    crc = google_crc32c.value(data)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def literal(data: bytes) -> bytes:
    """Snappy without any packing."""
    chunks = [data[start : start + 60] for start in range(0, len(data), 60)]
    return number(len(data)) + b"".join(bytes([(len(chunk) - 1) << 2]) + chunk for chunk in chunks)


def block(entries: list[tuple[bytes, bytes]], interval: int) -> bytes:
    """Entries whose keys share prefixes, but for every `interval`-th."""
    out, restarts, last = b"", [], b""
    for position, (key, value) in enumerate(entries):
        shared = 0
        if position % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        last = key
    return out + b"".join(start.to_bytes(4, "little") for start in [*restarts, len(restarts)])


class TableFile:
    """A table as it grows."""

    def __init__(self, packed: bool = False) -> None:
        self.data = b""
        self.packed = packed

    def add(self, contents: bytes) -> bytes:
        """Append a block; returns its handle."""
        contents = literal(contents) if self.packed else contents
        handle = number(len(self.data)) + number(len(contents))
        body = contents + bytes([self.packed])
        self.data += body + masked(body)
        return handle

    def finish(self, index: bytes) -> bytes:
        """The file, given the handle of the block of blocks."""
        meta = self.add(block([], 1))
        return self.data + (meta + index).ljust(40, b"\0") + MAGIC


def table(entries: Mapping[bytes, bytes], per_block: int = 7, interval: int = 3, packed: bool = False) -> bytes:
    """A table of several blocks."""
    file = TableFile(packed)
    rows = sorted(entries.items())
    parts = [rows[start : start + per_block] for start in range(0, len(rows), per_block)]
    handles = [(part[-1][0], file.add(block(part, interval))) for part in parts]
    return file.finish(file.add(block(handles, 1)))


def field(tag: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return number(tag << 3) + number(value)
    return number(tag << 3 | 2) + number(len(value)) + value


def entry(array: NDArray[np.generic], shard: int, offset: int, data: bytes) -> bytes:
    """BundleEntryProto."""
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    place = field(3, shard) + field(4, offset) + field(5, len(data))
    return field(1, DATA_TYPES[array.dtype.name]) + field(2, shape) + place + number(6 << 3 | 5) + masked(data)


def write_checkpoint(
    prefix: Path,
    tensors: Mapping[str, NDArray[np.generic]],
    shards: int = 1,
    big_endian: bool = False,
    packed: bool = False,
) -> None:
    """X.index and X.data-...: tensors are dealt to the shards in turn."""
    files = [bytearray() for _ in range(shards)]
    entries = {b"": field(1, shards) + field(2, int(big_endian)) + field(3, field(1, 1))}
    for position, (name, array) in enumerate(tensors.items()):
        shard = position % shards
        data = np.asarray(array).astype(array.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
        entries[name.encode()] = entry(array, shard, len(files[shard]), data)
        files[shard] += data
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries, packed=packed))
    for shard, content in enumerate(files):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
