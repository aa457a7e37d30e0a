"""The structure of video files, checked before FFmpeg opens them: for claims that are too large and a missing end.

ISO/IEC 14496-12 (MP4, MOV): a file is a sequence of boxes, each with its size, a type of four letters and contents, in
which boxes may be nested. RIFF (AVI): the same, the type first. EBML (Matroska, WebM): one element that holds all
others, with its size. ASF (WMV) and FLV: a field of the header holds the size of the file.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trivd.data.formats.frames import OverLimit, UnreadableVideo

HEAD = struct.Struct(">I4s")  # size, kind
RIFF_HEAD = struct.Struct("<4sI")  # kind, size without this head
LONG_SIZE = struct.Struct(">Q")  # after the kind, if the size is 1
COUNT = struct.Struct(">I")
MEDIA = (b"mdat", b"free", b"skip", b"wide")  # FFmpeg seeks over them
LARGEST_TABLES = 1 << 28  # bytes of one box; hours of video have a few MB
# Offset of each table's number of samples after its kind. FFmpeg accepts tables anywhere among other boxes.
COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
TABLES = re.compile(b"stsz|stz2|trun|cmov")
SIZE_FIELDS = {  # by a file's first bytes: pattern before the field, and its layout
    b"\x30\x26\xb2\x75": (
        re.compile(rb"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65.{24}", re.S),
        "<Q",
    ),
    b"FLV\x01": (re.compile(rb"filesize\x00"), ">d"),
}
LARGEST_HEADER = 1 << 16  # bytes that are searched for such a field
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def check_tables(path: Path) -> None:
    """Refuse an MP4 file that claims more samples than it has bytes; other files pass.

    Raises:
        UnreadableVideo: the file does, its header is compressed, or it cannot be opened.
    """
    try:
        size, samples = path.stat().st_size, 0
        with path.open("rb") as file:
            for kind, start, end in _boxes(file, size):
                if kind not in MEDIA:
                    length = min(end, size) - start
                    if length > LARGEST_TABLES:
                        raise OverLimit(path, "tables too large", f"{length:,} bytes, {LARGEST_TABLES:,} allowed")
                    samples += _claimed(path, file.read(start + length - file.tell()))
    except OSError as error:
        raise UnreadableVideo(path, "cannot be read", error.strerror or "") from error
    if samples > size:
        raise OverLimit(path, "claims too many samples", f"{samples:,} in {size:,} bytes")


def is_cut(path: Path) -> bool:
    """Whether a file ends before the end that its structure declares; see `kept_share`."""
    return kept_share(path) < 1


def kept_share(path: Path) -> float:
    """Share of the bytes declared by a file's structure that are there; 1 if it declares no size.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start == b"RIFF":
            end: float = _riff_end(file, size)
        elif start == EBML:
            end = _segment_end(file)
        elif start in SIZE_FIELDS:
            end = _size_field(file, *SIZE_FIELDS[start])
        else:
            end = max((end for _, _, end in _boxes(file, size)), default=0)
    return size / end if end > size else 1.0


def _size_field(file: BinaryIO, before: re.Pattern[bytes], layout: str) -> float:
    """Size of the file that the header declares; 0 if it declares none."""
    header = file.read(LARGEST_HEADER)
    match = before.search(header)
    if match is None or match.end() + 8 > len(header):
        return 0
    (size,) = struct.unpack_from(layout, header, match.end())
    return float(size)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each outermost box of an MP4 file, which is positioned at the box's contents."""
    start = 0
    while start + HEAD.size <= size:
        file.seek(start)
        length, kind = HEAD.unpack(file.read(HEAD.size))
        if not kind.isalnum():
            return
        if length == 1:
            length = int.from_bytes(file.read(LONG_SIZE.size))
        end = size if length == 0 else start + max(length, HEAD.size)
        yield kind, start, end
        start = end


def _riff_end(file: BinaryIO, size: int) -> int:
    """End of the last RIFF chunk; large files have several."""
    end = 0
    while end + RIFF_HEAD.size <= size:
        file.seek(end)
        kind, length = RIFF_HEAD.unpack(file.read(RIFF_HEAD.size))
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):  # padding, or a writer that was stopped
            break
        end += RIFF_HEAD.size + length
    return end


def _segment_end(file: BinaryIO) -> int:
    """End of the segment, the element with the frames; 0 if it is not declared, as in a live stream."""
    kind, length = file.read(4), _element_size(file)
    if length is not None:
        file.seek(length, 1)
        kind, length = file.read(4), _element_size(file)
    return file.tell() + length if kind == SEGMENT and length is not None else 0


def _element_size(file: BinaryIO) -> int | None:
    """An EBML number: the first byte has a leading zero bit for each further byte; None if all other bits are 1."""
    first = int.from_bytes(file.read(1))
    more = 8 - first.bit_length()
    if more > 7:
        return None
    mask = (1 << 7 * (more + 1)) - 1
    value = int.from_bytes(bytes([first]) + file.read(more)) & mask
    return None if value == mask else value


def _claimed(path: Path, box: bytes) -> int:
    """Number of samples that the tables in a box declare."""
    samples = 0
    for match in TABLES.finditer(box):
        if match[0] == b"cmov":
            raise OverLimit(path, "packed header", "write it again with FFmpeg")
        at = match.end() + COUNTS[match[0]]
        samples += COUNT.unpack_from(box, at)[0] if at + COUNT.size <= len(box) else 0
    return samples
