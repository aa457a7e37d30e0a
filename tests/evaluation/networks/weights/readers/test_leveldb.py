"""LevelDB's tables: what another writer wrote is read, and damage is an error, never more."""

import contextlib
from pathlib import Path

import pytest
from bundle_writer import MAGIC, TableFile, block, number, table
from cost_checks import cheaply
from hypothesis import given
from hypothesis import strategies as st

from trivd.evaluation.networks.weights.readers import leveldb as tables
from trivd.evaluation.networks.weights.readers.leveldb import read_table, unpack_snappy

FILES = Path(__file__).parent / "checkpoints"
KEYS = st.lists(st.sampled_from([b"a", b"b/", b"Mixed_3b/", b"\xff"]), max_size=5).map(b"".join)
SMALL = table({f"name/{n:03d}".encode(): bytes([n]) * n for n in range(40)})


@given(st.dictionaries(KEYS, st.binary(max_size=40)), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_reads_what_was_written(entries: dict[bytes, bytes], per_block: int, interval: int, packed: bool) -> None:
    assert read_table(table(entries, per_block, interval, packed)) == entries


def test_unpacks_what_snappy_packed() -> None:
    assert unpack_snappy((FILES / "text.snappy").read_bytes()) == (FILES / "text.bin").read_bytes()


def test_unpacks_every_kind_of_copy() -> None:
    packed = number(4 + 4 + 6 + 3) + b"\x0cabcd" + b"\x01\x04" + b"\x16\x02\x00" + b"\x0b\x0e\x00\x00\x00"
    assert unpack_snappy(packed) == b"abcd" + b"abcd" + b"cdcdcd" + b"abc"
    long = bytes(range(256)) * 2
    assert unpack_snappy(number(512) + b"\xf4\xff\x01" + long) == long


@given(st.binary(max_size=60))
def test_damaged_snappy_is_an_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(unpack_snappy(data)) <= tables.LARGEST_BLOCK


@given(st.integers(1, 200))
def test_cut_snappy_is_an_error(cut: int) -> None:
    with pytest.raises(ValueError, match="packed block"):
        unpack_snappy((FILES / "text.snappy").read_bytes()[:-cut])


def test_snappy_says_its_size_before_it_takes_memory() -> None:
    with pytest.raises(ValueError, match="too much"):
        unpack_snappy(number(1 << 40) + b"\x00a")


def test_far_copies_take_no_time() -> None:
    half, copies = 1 << 21, 1 << 15
    far = bytes([63 << 2 | 3]) + half.to_bytes(4, "little")  # 64 bytes
    packed = number(half + 64 * copies) + bytes([62 << 2]) + (half - 1).to_bytes(3, "little") + bytes(half)
    with cheaply():
        assert len(unpack_snappy(packed + far * copies)) == half + 64 * copies


@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found(position: int, change: int) -> None:
    damaged = bytearray(SMALL)
    damaged[position] ^= change
    with contextlib.suppress(ValueError):  # bytes that nothing depends on (padding, the empty meta block) may change
        assert read_table(bytes(damaged)) == read_table(SMALL)


@given(st.integers(0, len(SMALL) - 1))
def test_a_cut_table_is_an_error(size: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_table(SMALL[:size])


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_noise_with_a_table_s_end_is_an_error(body: bytes, footer: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_table(body + footer.ljust(40, b"\xff")[:40] + MAGIC)


@given(st.binary(max_size=80), st.booleans())
def test_noise_with_right_checksums_is_an_error_or_a_table(contents: bytes, packed: bool) -> None:
    file = TableFile(packed)
    handle = file.add(contents)
    with contextlib.suppress(ValueError):
        read_table(file.finish(file.add(block([(b"z", handle)], 1))))
    file = TableFile(packed)
    with contextlib.suppress(ValueError):
        read_table(file.finish(file.add(contents)))


def test_hostile_tables_cost_an_error() -> None:
    file = TableFile()
    handle = file.add(block([(b"a", b"")], 1))
    with pytest.raises(ValueError, match="overlap"):
        read_table(file.finish(file.add(block([(b"a", handle), (b"b", handle)], 1))))
    file = TableFile()
    handle = file.add(block([(b"b", b""), (b"a", b"")], 1))
    with pytest.raises(ValueError, match="sorted"):
        read_table(file.finish(file.add(block([(b"b", handle)], 1))))
    with pytest.raises(ValueError, match="entry"):
        read_table(table({b"k" * (tables.LONGEST_KEY + 1): b""}))
    with pytest.raises(ValueError, match="entries"):
        read_table(table({b"%06d" % n: b"" for n in range(tables.MOST_ENTRIES + 1)}, per_block=5000, interval=16))


def test_an_unknown_compression_is_named() -> None:
    file = TableFile()
    file.packed = 4  # type: ignore[assignment]  # zstd in other writers of this format
    with pytest.raises(ValueError, match="compression 4"):
        read_table(file.finish(file.add(b"")))
