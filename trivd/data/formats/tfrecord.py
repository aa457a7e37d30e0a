"""TensorFlow's record files and the tf.train.Example messages in them, read without TensorFlow.

A file is a row of records: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of the data, all little
endian. The data is a protocol buffer (https://protobuf.dev/programming-guides/encoding): Example.features (1) holds
Features.feature (1), a map from a name (1) to a Feature (2): one of bytes_list (1), float_list (2), int64_list (3).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from trivd.data.formats.frames import UnreadableVideo

Feature = list[bytes] | NDArray[np.float32] | None  # None: integers, or nothing
Example = dict[str, Feature]

LENGTH = struct.Struct("<QI")  # the length and its checksum, before the data
CHECKSUM = struct.Struct("<I")  # of the data, behind it
MASK = 0xA282EAD8  # added to the rotated checksum, so that checksums of data that hold checksums are no trouble
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
BYTES_LIST, FLOAT_LIST = 1, 2  # kinds of Feature
LONGEST_VARINT = 10  # bytes
MOST_FIELDS = 100_000  # of a message and of all in it; an example of BAIR has about a thousand


class Record(NamedTuple):
    """Where the data of a record lies in its file, in bytes."""

    offset: int
    length: int


class _DamagedMessage(Exception):  # noqa: N818
    """The bytes are no message; the text says why."""


def find_records(path: Path) -> Iterator[Record]:
    """The records of a file in order, by their lengths alone: their data is skipped.

    Raises:
        UnreadableVideo: the file is truncated, or a length is damaged; what was yielded before can be used.
    """
    if path.exists() and not path.is_file():  # a pipe would keep us waiting for ever
        raise UnreadableVideo(path, "not a file")
    try:
        with path.open("rb", buffering=0) as file:  # a buffer would read on into data
            start = 0
            while start < os.fstat(file.fileno()).st_size:
                record = _record_at(path, file, start)
                yield record
                start = record.offset + record.length + CHECKSUM.size
    except OSError as error:
        raise _unopened(path, error) from error


def read_record(path: Path, record: Record) -> bytes:
    """The data of one record, its length and checksums verified.

    Raises:
        UnreadableVideo: it has changed, is damaged, truncated, or gone.
    """
    start = record.offset - LENGTH.size
    try:
        with path.open("rb") as file:
            if _record_at(path, file, start) != record:
                raise UnreadableVideo(path, "changed", f"another record lies at byte {start}")
            data, checksum = file.read(record.length), file.read(CHECKSUM.size)
    except OSError as error:
        raise _unopened(path, error) from error
    if CHECKSUM.pack(masked_crc(data)) != checksum:
        raise UnreadableVideo(path, "wrong checksum", f"record at byte {start}")
    return data


def masked_crc(data: bytes) -> int:
    """CRC-32C as record files store it: rotated right by 15 bits, plus a constant."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def parse_example(data: bytes, path: Path) -> Example:
    """The features of a tf.train.Example by name; `path` is for messages.

    Raises:
        UnreadableVideo: the bytes are no such message.
    """
    example: Example = {}
    left = iter(range(MOST_FIELDS))  # an empty field takes 2 bytes there, and 100 here
    try:
        for features in _messages(memoryview(data), 1, left):
            for entry in _messages(features, 1, left):
                name = b"".join(list(_messages(entry, 1, left))[-1:]).decode()  # the last one counts; none is ""
                example[name] = _feature(b"".join(_messages(entry, 2, left)), left)  # repeated messages are merged
    except (_DamagedMessage, UnicodeDecodeError) as error:
        raise UnreadableVideo(path, "not a tf.train.Example", str(error)) from error
    return example


def _feature(message: bytes, left: Iterator[int]) -> Feature:
    kind = 0
    lists: list[memoryview] = []
    for number, wire, value in _fields(memoryview(message), left):
        if wire == DELIMITED and 1 <= number <= 3:
            if number != kind:  # of different kinds the last one counts
                kind, lists = number, []
            lists.append(value)
    values = [field for each in lists for field in _fields(each, left)]
    if kind == BYTES_LIST:
        return [bytes(value) for number, wire, value in values if (number, wire) == (1, DELIMITED)]
    if kind == FLOAT_LIST:
        floats = b"".join(_floats(wire, value) for number, wire, value in values if number == 1)
        return np.frombuffer(floats, "<f4").astype(np.float32)
    return None


def _floats(wire: int, value: memoryview) -> bytes:
    """Packed floats, or one on its own; both may stand in one list."""
    if wire == DELIMITED and len(value) % 4:
        raise _DamagedMessage(f"{len(value)} bytes of packed floats")
    return bytes(value) if wire in (DELIMITED, FIXED32) else b""


def _messages(message: memoryview, wanted: int, left: Iterator[int]) -> Iterator[memoryview]:
    """The values of one field that is a message, text or bytes."""
    return (value for number, wire, value in _fields(message, left) if (number, wire) == (wanted, DELIMITED))


def _fields(message: memoryview, left: Iterator[int]) -> Iterator[tuple[int, int, memoryview]]:
    """The fields of a message: number, wire type, bytes of the value; each takes one of those `left`."""
    at = 0
    while at < len(message):
        if next(left, None) is None:
            raise _DamagedMessage(f"more than {MOST_FIELDS:,} fields")
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _DamagedMessage("a field has the number 0")
        if wire == VARINT:
            end = _varint(message, at)[1]
        elif wire == DELIMITED:
            length, at = _varint(message, at)
            end = at + length
        elif wire in (FIXED32, FIXED64):
            end = at + (4 if wire == FIXED32 else 8)
        else:
            raise _DamagedMessage(f"a field has the wire type {wire}")
        if end > len(message):
            raise _DamagedMessage("a field is cut off")
        yield number, wire, message[at:end]
        at = end


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, the lowest first, and the place behind it."""
    value = 0
    for place, byte in enumerate(message[at : at + LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _DamagedMessage("an integer is cut off or too long")


def _record_at(path: Path, file: BinaryIO, start: int) -> Record:
    """The record that begins at byte `start`; the file then stands at its data, which is there to its last byte."""
    file.seek(start)
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise UnreadableVideo(path, "truncated", f"the record at byte {start} is cut off")
    length, checksum = LENGTH.unpack(head)
    if masked_crc(head[:8]) != checksum:
        raise UnreadableVideo(path, "wrong checksum", f"length of the record at byte {start}")
    record = Record(start + LENGTH.size, length)
    if record.offset + length + CHECKSUM.size > os.fstat(file.fileno()).st_size:
        raise UnreadableVideo(path, "truncated", f"the record at byte {start} is cut off")
    return record


def _unopened(path: Path, error: OSError) -> UnreadableVideo:
    if isinstance(error, FileNotFoundError):
        return UnreadableVideo(path, "missing")
    return UnreadableVideo(path, "cannot be read", error.strerror or "")
