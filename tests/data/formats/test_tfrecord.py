"""Record files: framing and checksums against TensorBoard's writer, messages against Google's protocol buffers."""

import io
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cost_checks import quickly
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from record_files import byte_list, crc32c, example, field, masked, packed, record, unpacked, varint
from tensorboard.summary.writer.record_writer import RecordWriter

from trivd.data.formats.frames import UnreadableVideo
from trivd.data.formats.tfrecord import Example, Record, find_records, parse_example, read_record
from trivd.runtime.crc32c import masked_crc32c
from trivd.runtime.errors import TrivdError

HERE = Path("here.tfrecords")
FEATURES = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.one_of(
        st.lists(st.binary(max_size=8), max_size=3),
        st.lists(st.floats(width=32, allow_nan=False), max_size=3),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def google_example() -> Callable[[], Any]:
    """The class tf.train.Example, from TensorFlow's published description of it."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="check", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", types.TYPE_BYTES),
        ("FloatList", types.TYPE_FLOAT),
        ("Int64List", types.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=types.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes", "float", "int64"), start=1):
        feature.field.add(
            name=f"{name}_list",
            number=number,
            type=types.TYPE_MESSAGE,
            type_name=f".check.{name.capitalize()}List",
            label=types.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=types.TYPE_STRING, label=types.LABEL_OPTIONAL)
    value = {"type": types.TYPE_MESSAGE, "label": types.LABEL_OPTIONAL}
    entry.field.add(name="value", number=2, type_name=".check.Feature", **value)
    features.field.add(
        name="feature",
        number=1,
        type=types.TYPE_MESSAGE,
        type_name=".check.Features.FeatureEntry",
        label=types.LABEL_REPEATED,
    )
    file.message_type.add(name="Example").field.add(name="features", number=1, type_name=".check.Features", **value)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("check.Example"))


def serialised(make: Callable[[], Any], features: dict[str, list[Any]]) -> bytes:
    built = make()
    for name, values in features.items():
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0]) if values else bytes]
        target = getattr(built.features.feature[name], kind)
        target.SetInParent()
        target.value.extend(values)
    return built.SerializeToString()


def pack(values: Iterable[float]) -> bytes:
    """By way of Python's floats, which a signalling NaN leaves as a quiet one."""
    floats = [float(value) for value in values]
    return struct.pack(f"<{len(floats)}f", *floats)


def plain(parsed: Example) -> dict[str, Any]:
    return {name: pack(value) if isinstance(value, np.ndarray) else value for name, value in parsed.items()}


def googles(parsed: Any) -> dict[str, Any]:
    """The same of Google's message."""
    values: dict[str, Any] = {}
    for name, feature in parsed.features.feature.items():
        match feature.WhichOneof("kind"):
            case "bytes_list":
                values[name] = list(feature.bytes_list.value)
            case "float_list":
                values[name] = pack(feature.float_list.value)
            case _:
                values[name] = None
    return values


def write(path: Path, *payloads: bytes) -> Path:
    path.write_bytes(b"".join(map(record, payloads)))
    return path


def test_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value that is published with the polynomial
    assert masked(b"123456789") == struct.pack("<I", masked_crc32c(b"123456789"))


@given(payloads=st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=30)
def test_records_are_read_as_tensorboard_writes_them(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]
) -> None:
    written = io.BytesIO()
    for payload in payloads:
        RecordWriter(written).write(payload)
    assert written.getvalue() == b"".join(map(record, payloads))
    path = tmp_path_factory.mktemp("records") / "a.tfrecords"
    path.write_bytes(written.getvalue())
    assert [read_record(path, found) for found in find_records(path)] == payloads


@given(features=FEATURES)
def test_examples_are_parsed_as_google_does(google_example: Callable[[], Any], features: dict[str, list[Any]]) -> None:
    data = serialised(google_example, features)
    parsed = google_example()
    parsed.ParseFromString(data)
    assert plain(parse_example(data, HERE)) == googles(parsed)


@given(
    features=FEATURES,
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3),
    end=st.integers(0, 300),
)
@settings(max_examples=400)
def test_damaged_examples_fail_or_mean_what_google_says(
    google_example: Callable[[], Any], features: dict[str, list[Any]], changes: list[tuple[int, int]], end: int
) -> None:
    damaged = bytearray(serialised(google_example, features))
    for place, byte in changes:
        if place < len(damaged):
            damaged[place] = byte
    data = bytes(damaged[:end])
    try:
        ours = plain(parse_example(data, HERE))
    except UnreadableVideo:
        return
    parsed = google_example()
    try:
        parsed.ParseFromString(data)
    except message.DecodeError:
        return  # it also checks the integers, which are of no use here
    assert ours == googles(parsed)


def test_floats_packed_and_not_and_both() -> None:
    values = [0.5, -1.25, 3e38]
    both = field(2, unpacked(values)[2:] + packed([7.0])[2:])
    parsed = parse_example(example({"p": packed(values), "u": unpacked(values), "b": both, "e": packed([])}), HERE)
    for name, wanted in (("p", values), ("u", values), ("b", [*values, 7.0]), ("e", [])):
        value = parsed[name]
        assert isinstance(value, np.ndarray)
        assert value.dtype == np.float32
        assert value.tolist() == np.array(wanted, np.float32).tolist()


def test_what_protocol_buffers_allow() -> None:
    unknown = varint(9 << 3) + varint(2**64 - 1) + varint(9 << 3 | 1) + bytes(8) + varint(9 << 3 | 5) + bytes(4)
    twice = example({"a": byte_list([b"1"])}) + unknown + example({"a": byte_list([b"2"]), "": byte_list([])})
    assert parse_example(twice, HERE) == {"a": [b"2"], "": []}
    merged = field(1, field(1, field(1, b"k") + field(2, byte_list([b"1"])) + field(2, byte_list([b"2"]))))
    assert parse_example(merged, HERE) == {"k": [b"1", b"2"]}
    renamed = field(1, field(1, field(1, b"j") + field(1, b"k") + field(2, byte_list([b"1"]))))
    assert parse_example(renamed, HERE) == {"k": [b"1"]}
    last = field(1, field(1, field(1, b"k") + field(2, byte_list([b"1"])) + field(2, packed([1.0]))))
    assert np.array_equal(np.asarray(parse_example(last, HERE)["k"]), [1.0])


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05ab",
        b"\x00\x00",
        b"\x0b",
        b"\xff" * 11,
        field(1, field(1, field(1, b"\xff\xfe"))),
        field(1, field(1, field(1, b"k") + field(2, field(2, field(1, b"12345"))))),
    ],
    ids=["no length", "cut off", "field 0", "group", "long integer", "not UTF-8", "floats of five bytes"],
)
def test_no_example(data: bytes) -> None:
    with pytest.raises(UnreadableVideo, match=r"not a tf\.train\.Example"):
        parse_example(data, HERE)


def test_every_truncation_leaves_the_records_before_it(tmp_path: Path) -> None:
    payloads = [b"first", b"", b"third one"]
    whole = b"".join(map(record, payloads))
    ends = [sum(len(record(p)) for p in payloads[:n]) for n in range(4)]
    for size in range(len(whole)):
        (path := tmp_path / "cut").write_bytes(whole[:size])
        found: list[Record] = []
        reason = ""
        try:
            for one in find_records(path):
                found.append(one)
        except UnreadableVideo as error:
            reason = error.reason
        assert [read_record(path, one) for one in found] == payloads[: sum(end <= size for end in ends[1:])]
        assert reason == ("" if size in ends else "truncated")


def test_every_changed_bit_is_noticed(tmp_path: Path) -> None:
    payloads = [b"one", b"two"]
    whole = b"".join(map(record, payloads))
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        (path := tmp_path / "changed").write_bytes(changed)
        intact = []
        with pytest.raises(UnreadableVideo, match="wrong checksum"):  # noqa: PT012
            for one in find_records(path):
                intact.append(read_record(path, one))
        assert intact == payloads[: bit // 8 // len(record(b"one"))]


def test_files_that_change_or_go_after_the_listing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecords", b"first", b"second")
    *_, last = find_records(path)
    write(path, b"other", b"length!")
    with pytest.raises(UnreadableVideo, match="changed"):
        read_record(path, last)
    write(path, b"first")
    with pytest.raises(UnreadableVideo, match="truncated"):
        read_record(path, last)
    path.unlink()
    with pytest.raises(UnreadableVideo, match="missing"):
        read_record(path, last)
    with pytest.raises(UnreadableVideo, match="missing"):
        list(find_records(path))
    path.mkdir()
    with pytest.raises(UnreadableVideo, match="cannot be read"):
        read_record(path, last)


def test_a_length_beyond_the_file_takes_no_memory(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**62)
    path = tmp_path / "huge"
    path.write_bytes(length + masked(length) + bytes(100))
    with pytest.raises(UnreadableVideo, match="truncated"):
        list(find_records(path))
    with pytest.raises(UnreadableVideo, match="truncated"):
        read_record(path, Record(12, 2**62))


def test_data_is_skipped_when_records_are_listed(tmp_path: Path) -> None:
    size = 1 << 32  # a hole, without blocks on the disk
    length = struct.pack("<Q", size)
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(length + masked(length))
        file.seek(size + 4, os.SEEK_CUR)
        file.write(record(b"behind it"))
    with quickly(1):
        first, second = find_records(path)
    assert first == (12, size)
    assert read_record(path, second) == b"behind it"


def test_many_tiny_fields_take_linear_time() -> None:
    lists = b"".join([byte_list([b""])] * 30_000)
    with quickly():
        assert parse_example(example({"a": lists}), HERE) == {"a": [b""] * 30_000}


@given(content=st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_give_records_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for data in (content, record(content), record(content)[:-1]):
        path.write_bytes(data)
        with suppress(TrivdError):
            for one in find_records(path):
                parse_example(read_record(path, one), path)
