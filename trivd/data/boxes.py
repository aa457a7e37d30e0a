"""What an MP4 file's tables claim, read before FFmpeg, which builds an index of all samples when it opens a file.

ISO/IEC 14496-12: a file is a row of boxes, each with its size, four letters and content; boxes lie in boxes.
"""

import re
import struct
from pathlib import Path

from trivd.data.frames import OverLimit, UnreadableVideo

HEAD = struct.Struct(">I4s")  # size, kind
LONG_SIZE = struct.Struct(">Q")  # behind the kind, where the size is 1
COUNT = struct.Struct(">I")
MEDIA = (b"mdat", b"free", b"skip", b"wide")  # FFmpeg seeks over them
LARGEST_TABLES = 1 << 28  # bytes of one box; hours of video have a few MB
# Where each table's number of samples lies behind its kind. FFmpeg takes tables wherever they lie among other boxes.
COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
TABLES = re.compile(b"stsz|stz2|trun|cmov")


def check_tables(path: Path) -> None:
    """Refuse an MP4 file that claims more samples than it has bytes; other files pass.

    Raises:
        UnreadableVideo: it does, its header is packed, or it cannot be opened.
    """
    try:
        size, samples = path.stat().st_size, 0
        with path.open("rb") as file:
            start = 0
            while start + HEAD.size <= size:
                file.seek(start)
                length, kind = HEAD.unpack(file.read(HEAD.size))
                if not kind.isalnum():
                    return
                if length == 1:
                    length = int.from_bytes(file.read(LONG_SIZE.size))
                end = size if length == 0 else min(size, start + max(length, HEAD.size))
                if kind not in MEDIA:
                    if end - start > LARGEST_TABLES:
                        raise OverLimit(path, "tables too large", f"{end - start:,} bytes, {LARGEST_TABLES:,} allowed")
                    samples += _claimed(path, file.read(end - file.tell()))
                start = end
    except OSError as error:
        raise UnreadableVideo(path, "cannot be read", error.strerror or "") from error
    if samples > size:
        raise OverLimit(path, "claims too many samples", f"{samples:,} in {size:,} bytes")


def _claimed(path: Path, box: bytes) -> int:
    """Samples that the tables in a box name."""
    samples = 0
    for match in TABLES.finditer(box):
        if match[0] == b"cmov":
            raise OverLimit(path, "packed header", "write it again with FFmpeg")
        at = match.end() + COUNTS[match[0]]
        samples += COUNT.unpack_from(box, at)[0] if at + COUNT.size <= len(box) else 0
    return samples
