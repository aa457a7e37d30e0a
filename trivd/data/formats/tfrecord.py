"""TensorFlow's record files and the tf.train.Example messages in them, read without TensorFlow.

A file is a sequence of records: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of the data, all
little-endian. The data is a protocol buffer: Example.features (1) holds Features.feature (1), a map from a name (1) to
a Feature (2): one of bytes_list (1), float_list (2), int64_list (3).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivd.data.formats.frames import UnreadableVideo
from trivd.runtime.crc32c import masked_crc32c
from trivd.runtime.protobuf import DELIMITED, FIXED32, Field, FieldReader

Feature = list[bytes] | NDArray[np.float32] | None  # None: integers, or nothing
Example = dict[str, Feature]

LENGTH = struct.Struct("<QI")  # the length and its checksum, before the data
CHECKSUM = struct.Struct("<I")  # after the data
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # kinds of Feature
MOST_FIELDS = 100_000  # of an example, in all its messages; one of BAIR's has about a thousand


class Record(NamedTuple):
    """Place of a record's data in its file, in bytes."""

    offset: int
    length: int


def find_records(path: Path) -> Iterator[Record]:
    """The records of a file in order, by their lengths alone: their data is skipped.

    Raises:
        UnreadableVideo: the file is truncated, or a length is damaged; what was yielded before can be used.
    """
    if path.exists() and not path.is_file():  # a pipe would block for ever
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
    if CHECKSUM.pack(masked_crc32c(data)) != checksum:
        raise UnreadableVideo(path, "wrong checksum", f"record at byte {start}")
    return data


def parse_example(data: bytes, path: Path) -> Example:
    """The features of a tf.train.Example by name; `path` is for messages.

    Raises:
        UnreadableVideo: the bytes are no such message.
    """
    example: Example = {}
    reader = FieldReader(MOST_FIELDS)
    try:
        for features in _messages(reader, data, 1):
            for entry in _messages(reader, features, 1):
                name = b"".join(list(_messages(reader, entry, 1))[-1:]).decode()  # the last one counts; none is ""
                example[name] = _feature(reader, b"".join(_messages(reader, entry, 2)))  # repeated ones are merged
    except ValueError as error:  # UnicodeDecodeError among them
        raise UnreadableVideo(path, "not a tf.train.Example", str(error)) from error
    return example


def _messages(reader: FieldReader, message: bytes | memoryview, number: int) -> Iterator[memoryview]:
    """The values of one field that holds messages, text or bytes."""
    for field in reader.fields(message):
        if (field.number, field.wire) == (number, DELIMITED):
            yield field.value


def _feature(reader: FieldReader, message: bytes) -> Feature:
    kind = 0
    lists: list[memoryview] = []
    for field in reader.fields(message):
        if field.wire == DELIMITED and BYTES_LIST <= field.number <= INT64_LIST:
            if field.number != kind:  # where there are several kinds, the last one counts
                kind, lists = field.number, []
            lists.append(field.value)
    values = [field for each in lists for field in reader.fields(each) if field.number == 1]
    if kind == BYTES_LIST:
        return [bytes(field.value) for field in values if field.wire == DELIMITED]
    if kind == FLOAT_LIST:
        return np.frombuffer(b"".join(map(_floats, values)), "<f4").astype(np.float32)
    return None


def _floats(field: Field) -> bytes:
    """Packed floats, or a single one; both may stand in one list."""
    if field.wire == DELIMITED and len(field.value) % 4:
        raise ValueError(f"{len(field.value)} bytes of packed floats")
    return bytes(field.value) if field.wire in (DELIMITED, FIXED32) else b""


def _record_at(path: Path, file: BinaryIO, start: int) -> Record:
    """The record that begins at byte `start`; the file then stands at its data, which is there to its last byte."""
    file.seek(start)
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise UnreadableVideo(path, "truncated", f"the record at byte {start} is cut off")
    length, checksum = LENGTH.unpack(head)
    if masked_crc32c(head[:8]) != checksum:
        raise UnreadableVideo(path, "wrong checksum", f"length of the record at byte {start}")
    record = Record(start + LENGTH.size, length)
    if record.offset + length + CHECKSUM.size > os.fstat(file.fileno()).st_size:
        raise UnreadableVideo(path, "truncated", f"the record at byte {start} is cut off")
    return record


def _unopened(path: Path, error: OSError) -> UnreadableVideo:
    if isinstance(error, FileNotFoundError):
        return UnreadableVideo(path, "missing")
    return UnreadableVideo(path, "cannot be read", error.strerror or "")
