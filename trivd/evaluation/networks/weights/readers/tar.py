"""The regular files of a tar archive in memory: POSIX's "ustar" layout, and nothing that has been added to it.

Not Python's tarfile: a sparse file of 512 bytes takes any memory there, and the extended headers of PAX any time.
"""

from collections.abc import Iterator

BLOCK = 512  # bytes; headers and contents start at multiples
REGULAR = (b"\0", b"0", b"7")  # types of members
EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices and folders: nothing follows, whatever their size
SPARSE = b"S"
CHECKSUM = slice(148, 156)


def read_tar(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of the members; None for what is no regular file, so that links are not followed.

    Names of more than 100 bytes are understood as POSIX has them, and otherwise cut off.

    Raises:
        ValueError: it is damaged, or holds sparse files.
    """
    position = 0
    while position < len(data):
        header = data[position : position + BLOCK]
        if not any(header):  # two such blocks are the end
            return
        if len(header) < BLOCK or _octal(header[CHECKSUM]) != sum(header) - sum(header[CHECKSUM]) + 8 * ord(" "):
            raise ValueError("the header of a file in it is wrong")
        kind = header[156:157]
        if kind == SPARSE:
            raise ValueError("it holds a sparse file, as weights never are; pack it again with `tar --format=ustar`")
        size = 0 if kind in EMPTY else _octal(header[124:136])
        position += BLOCK
        content = data[position : position + size]
        if len(content) != size:
            raise ValueError("a file in it is cut off")
        position += -(-size // BLOCK) * BLOCK
        name, prefix = _text(header[:100]), _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
        yield f"{prefix}/{name}" if prefix else name, content if kind in REGULAR else None


def _octal(text: bytes) -> int:
    try:
        return int(text.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise ValueError("the header of a file in it is wrong") from error


def _text(text: bytes) -> str:
    return text.split(b"\0", 1)[0].decode(errors="replace")
