"""The regular files of a tar archive, one after the other: POSIX's "ustar" layout, and nothing that was added to it.

Not Python's tarfile: a sparse file of 512 bytes takes any memory there, and the extended headers of PAX any time.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, check_size
from trivd.runtime.errors import TrivdError

BLOCK = 512  # bytes; headers and contents start at multiples
REGULAR = (b"\0", b"0", b"7")  # types of members
EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices and folders: nothing follows, whatever their size
SPARSE = b"S"
CHECKSUM = slice(148, 156)
MOST_FILES = 10_000  # and folders in an archive; a TF-Hub module has ten
LARGEST_RATIO = 20  # of unpacked to packed bytes, for archives that unpack to over 16 MB


def unpack_tar_gz(path: Path) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of the regular files in a .tar.gz; nothing is written, and links are not followed.

    Raises:
        TrivdError: it is damaged, too large, or holds a path that leaves it.
    """
    check_size(path)
    try:
        largest = min(LARGEST_BYTES, max(1 << 24, LARGEST_RATIO * path.stat().st_size))
        with gzip.open(path) as packed:
            for number, (name, content) in enumerate(read_tar(packed, largest)):
                if number == MOST_FILES:
                    raise TrivdError(f"{path} holds more than {MOST_FILES:,} files, so it is not I3D.")
                inside = PurePosixPath(name)
                if inside.is_absolute() or ".." in inside.parts:
                    raise TrivdError(f"{path} holds {name!r}, which leads out of it; do not trust this file.")
                if content is not None:
                    yield str(inside), content
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise TrivdError(f"{path} is no .tar.gz with I3D, or damaged: {error}; fetch it again.") from error


def read_tar(file: gzip.GzipFile, largest: int) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of the members; None for what is no regular file, so that links are not followed.

    Names of more than 100 bytes are understood as POSIX has them, and otherwise cut off.

    Args:
        file: the archive, read once from its start to its end.
        largest: bytes that it may have.

    Raises:
        ValueError: it is damaged, larger, or holds sparse files.
    """
    taken = 0
    while header := _read(file, BLOCK):
        taken += BLOCK
        if not any(header):  # two such blocks are the end
            return
        if len(header) < BLOCK or _octal(header[CHECKSUM]) != sum(header) - sum(header[CHECKSUM]) + 8 * ord(" "):
            raise ValueError("the header of a file in it is wrong")
        kind = header[156:157]
        if kind == SPARSE:
            raise ValueError("it holds a sparse file, as weights never are; pack it again with `tar --format=ustar`")
        size = 0 if kind in EMPTY else _octal(header[124:136])
        taken += size
        if taken > largest:
            raise ValueError(f"it unpacks to more than {largest:,} bytes")
        content = _read(file, size)
        if len(content) != size:
            raise ValueError("a file in it is cut off")
        _read(file, -size % BLOCK)
        name, prefix = _text(header[:100]), _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
        yield f"{prefix}/{name}" if prefix else name, content if kind in REGULAR else None


def _read(file: gzip.GzipFile, size: int) -> bytes:
    return file.read(size) if size > 0 else b""


def _octal(text: bytes) -> int:
    try:
        return int(text.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise ValueError("the header of a file in it is wrong") from error


def _text(text: bytes) -> str:
    return text.split(b"\0", 1)[0].decode(errors="replace")
