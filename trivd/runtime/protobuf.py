"""The wire format of protocol buffers, read without a description of the messages.

https://protobuf.dev/programming-guides/encoding. All errors of this module are ValueErrors.
"""

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10  # bytes, for 64 bits


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire: int  # type
    value: memoryview  # its bytes as they are stored, without the length of a delimited field

    def integer(self) -> int:
        """The number that the field holds.

        Raises:
            ValueError: it holds a message, text or bytes.
        """
        if self.wire == DELIMITED:
            raise ValueError("a field that should be a number is not")
        return varint(self.value, 0)[0] if self.wire == VARINT else int.from_bytes(self.value, "little")

    def message(self) -> memoryview:
        """The bytes of the message that the field holds.

        Raises:
            ValueError: it holds a number.
        """
        if self.wire != DELIMITED:
            raise ValueError("a field that should be a message is not")
        return self.value


class FieldReader:
    """Reads messages and the messages in them, up to a number of fields: an empty one takes 2 bytes, and far more here.

    Args:
        most_fields: of all messages together.
    """

    def __init__(self, most_fields: int) -> None:
        self.most_fields = most_fields
        self.read = 0

    def fields(self, message: bytes | memoryview) -> Iterator[Field]:
        """The fields of a message, in their order.

        Raises:
            ValueError: it is damaged, or one field too many.
        """
        message = memoryview(message)
        position = 0
        while position < len(message):
            self.read += 1
            if self.read > self.most_fields:
                raise ValueError(f"more than {self.most_fields:,} fields")
            tag, position = varint(message, position)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise ValueError("a field has the number 0")
            if wire == VARINT:
                end = varint(message, position)[1]
            elif wire == DELIMITED:
                length, position = varint(message, position)
                end = position + length
            elif wire in FIXED_BYTES:
                end = position + FIXED_BYTES[wire]
            else:
                raise ValueError(f"a field has the unknown wire type {wire}")
            if end > len(message):
                raise ValueError("a field is cut off")
            yield Field(number, wire, message[position:end])
            position = end


def varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """A number stored in 7 bits per byte, the lowest first, and the position after it.

    Raises:
        ValueError: it is cut off, or longer than 64 bits need.
    """
    value = 0
    for place, byte in enumerate(data[position : position + LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position + place + 1
    raise ValueError("a number is cut off or has more than 64 bits")
