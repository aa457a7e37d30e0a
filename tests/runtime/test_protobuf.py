"""Fields of protocol buffers, against the writer of the tests; tests/data/formats compare messages with Google's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_files import field, varint

from trivd.runtime import protobuf
from trivd.runtime.protobuf import FieldReader


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_numbers_are_read_where_they_stand(value: int, before: bytes, after: bytes) -> None:
    data = before + varint(value) + after
    assert protobuf.varint(data, len(before)) == (value, len(before) + len(varint(value)))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=40))
def test_fields_are_numbers_or_messages(number: int, fixed: int, text: bytes) -> None:
    message = varint(5 << 3) + varint(number) + varint(6 << 3 | 5) + fixed.to_bytes(4, "little") + field(7, text)
    first, second, third = FieldReader(3).fields(message)
    assert (first.number, first.integer(), second.number, second.integer()) == (5, number, 6, fixed)
    assert (third.number, bytes(third.message())) == (7, text)
    with pytest.raises(ValueError, match="should be a message"):
        first.message()
    with pytest.raises(ValueError, match="should be a number"):
        third.integer()


def test_fields_are_counted_over_all_messages() -> None:
    reader = FieldReader(3)
    for _ in range(3):
        list(reader.fields(field(1, b"")))
    with pytest.raises(ValueError, match="more than 3 fields"):
        list(reader.fields(field(1, b"")))
