"""Tables in LevelDB's format, which TensorFlow uses as the index of a checkpoint: sorted keys and their values.

A table consists of blocks of prefix-compressed entries, each with a checksum, and of a footer that says where the block
that lists the blocks lies: leveldb's doc/table_format.md and snappy's format_description.txt. All errors of this module
are ValueErrors.
"""

from collections.abc import Iterator
from typing import NamedTuple

from trivd.runtime.crc32c import masked_crc32c
from trivd.runtime.protobuf import varint

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # a table ends with it
FOOTER_BYTES = 48
TRAILER_BYTES = 5  # after each block: the kind of compression, and a masked CRC-32C
STORED, SNAPPY = 0, 1  # kinds of compression
LARGEST_BLOCK = 1 << 22  # bytes, unpacked
LONGEST_KEY = 1 << 10  # bytes; I3D's longest is 70
MOST_ENTRIES = 20_000  # I3D has 231


class _Handle(NamedTuple):
    """Place of a block, in bytes."""

    offset: int
    size: int


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in the order of their keys.

    Raises:
        ValueError: it is no table, damaged, or larger than an index of tensors is.
    """
    if len(data) < FOOTER_BYTES or not data.endswith(MAGIC):
        raise ValueError("it does not end as a table does")
    footer = data[-FOOTER_BYTES:]
    _, position = _handle(footer, 0)  # of the meta blocks, which hold nothing about tensors
    index, _ = _handle(footer, position)
    table: dict[bytes, bytes] = {}
    end, last = 0, None
    for _, place in _entries(_block(data, index)):
        handle, _ = _handle(place, 0)
        if handle.offset < end:  # else a small file could send the reader through the same block for ever
            raise ValueError("its blocks overlap")
        end = handle.offset + handle.size
        for key, value in _entries(_block(data, handle)):
            if last is not None and key <= last:
                raise ValueError("its keys are not sorted")
            last = key
            table[key] = value
            if len(table) > MOST_ENTRIES:
                raise ValueError(f"it has more than {MOST_ENTRIES:,} entries")
    return table


def _handle(data: bytes, position: int) -> tuple[_Handle, int]:
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return _Handle(offset, size), position


def _block(data: bytes, handle: _Handle) -> bytes:
    """A block's bytes, unpacked, its checksum verified."""
    end = handle.offset + handle.size
    if end + TRAILER_BYTES > len(data) or handle.size > LARGEST_BLOCK:
        raise ValueError("a block lies outside of it")
    checksum = int.from_bytes(data[end + 1 : end + TRAILER_BYTES], "little")
    if masked_crc32c(data[handle.offset : end + 1]) != checksum:
        raise ValueError("a block's checksum is wrong")
    contents, compression = data[handle.offset : end], data[end]
    if compression == STORED:
        return contents
    if compression == SNAPPY:
        return unpack_snappy(contents)
    raise ValueError(f"a block has the unknown compression {compression}")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; of each key, only what differs from the one before is stored."""
    restarts = int.from_bytes(block[-4:], "little")  # places to start a search from; reading all needs none
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("a block is cut off")
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        unshared, position = varint(block, position)
        size, position = varint(block, position)
        stop = position + unshared + size
        if shared > len(key) or shared + unshared > LONGEST_KEY or stop > end:
            raise ValueError("an entry of a block is damaged")
        key = key[:shared] + block[position : position + unshared]
        yield key, block[position + unshared : stop]
        position = stop


def unpack_snappy(data: bytes) -> bytes:
    """Unpack Snappy's format: literals, and copies of what came before.

    Raises:
        ValueError: it is damaged, or unpacks to more than `LARGEST_BLOCK`.
    """
    size, position = varint(data, 0)
    if size > LARGEST_BLOCK:
        raise ValueError("a block unpacks to too much")
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            extra = max(length - 60, 0)  # bytes of a longer literal's length
            if extra:
                length = int.from_bytes(data[position : position + extra], "little") + 1
            position += extra
            out += data[position : position + length]
            position += length
        else:
            extra = (1, 2, 4)[kind - 1]  # bytes of the distance back
            distance = int.from_bytes(data[position : position + extra], "little")
            position += extra
            if kind == 1:
                distance += tag >> 5 << 8
                length = (tag >> 2 & 7) + 4
            if not 0 < distance <= len(out):
                raise ValueError("a packed block is damaged")
            start = len(out) - distance
            pattern = bytes(out[start : start + length])
            out += (pattern * (length // distance + 1))[:length]  # a copy may reach into itself
        if position > len(data) or len(out) > size:
            raise ValueError("a packed block is damaged")
    if len(out) != size:
        raise ValueError("a packed block is cut off")
    return bytes(out)
