"""TensorFlow's checkpoints: files of TensorFlow itself, and of a second writer for what those do not cover."""

import contextlib
import gzip
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from bundle_writer import DATA_TYPES, entry, field, table, write_checkpoint
from cost_checks import cheaply
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trivd.evaluation.networks.weights.readers import tar
from trivd.evaluation.networks.weights.readers.distribution import read_tar_gz
from trivd.evaluation.networks.weights.readers.tensorflow import find_index, read_checkpoint
from trivd.runtime.errors import TrivdError

FILES = Path(__file__).parent / "checkpoints"
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
Arrays = dict[str, NDArray[np.generic]]


def saved_by_tensorflow() -> Arrays:
    """The values of `real` and `sharded`, as float32."""
    values: Arrays = {
        f"RGB/inception_i3d/Mixed_{n // 8}/Branch_{n % 8}/batch_norm/beta": (
            np.arange(3 + n % 4, dtype=np.float32) * 0.5 - n
        ).reshape(1, 1, -1)
        for n in range(40)
    }
    with np.errstate(over="ignore"):
        values["double"] = np.array([0.1, 1e300]).astype(np.float32)
    values["half"] = np.array([[1.5, -2.25]], np.float32)
    values["scalar"] = np.array(3.25, np.float32)
    values["empty"] = np.zeros((0, 3), np.float32)
    return values


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", ["real", "sharded"])
def test_reads_tensorflow_s_own_files(name: str) -> None:
    assert_same(read_checkpoint(FILES / f"{name}.index"), saved_by_tensorflow())  # type: ignore[arg-type]


def test_reads_an_object_checkpoint() -> None:
    found = read_checkpoint(FILES / "object.index")
    expected: Arrays = {
        "a/.ATTRIBUTES/VARIABLE_VALUE": np.array(3.25, np.float32),
        "b/.ATTRIBUTES/VARIABLE_VALUE": np.ones((2, 3), np.float32),
    }
    assert_same(found, expected)  # type: ignore[arg-type]


@given(
    tensors=st.dictionaries(
        st.sampled_from(["w", "beta", "a/b", "a/bc", "é"]), st.tuples(SHAPES, st.sampled_from([*DATA_TYPES]))
    ),
    shards=st.integers(1, 3),
    big_endian=st.booleans(),
    packed=st.booleans(),
)
def test_reads_shards_types_and_byte_orders(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, tuple[tuple[int, ...], str]],
    shards: int,
    big_endian: bool,
    packed: bool,
) -> None:
    rng = np.random.default_rng(0)
    arrays: Arrays = {name: (rng.normal(size=shape) * 9).astype(kind) for name, (shape, kind) in tensors.items()}
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder / "x", arrays, shards, big_endian, packed)
    expected = {name: array.astype(np.float32) for name, array in arrays.items() if array.dtype != np.int64}
    assert_same(read_checkpoint(folder / "x.index"), expected)  # type: ignore[arg-type]


def test_a_checkpoint_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model.ckpt", {"w": np.ones(3, np.float32)}, shards=2)
    index = tmp_path / "model.ckpt.index"
    for name in ("model.ckpt", "model.ckpt.index", "model.ckpt.data-00001-of-00002", ""):
        assert find_index(tmp_path / name) == index
    assert find_index(tmp_path / "model") is None
    with pytest.raises(TrivdError, match="no TensorFlow checkpoint"):
        find_index(Path(shutil.copytree(tmp_path, tmp_path / "sub", ignore=shutil.ignore_patterns("*.index"))))
    write_checkpoint(tmp_path / "variables" / "variables", {})
    assert find_index(tmp_path) == tmp_path / "variables" / "variables.index"
    write_checkpoint(tmp_path / "variables" / "other", {})
    with pytest.raises(TrivdError, match=r"several checkpoints \(other.index, variables.index\)"):
        find_index(tmp_path / "variables")


def pack(path: Path, files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return path


def test_a_hub_module_is_read_in_its_archive(tmp_path: Path) -> None:
    names = ("index", "data-00000-of-00002", "data-00001-of-00002")
    content = {f"./variables/variables.{name}": (FILES / f"sharded.{name}").read_bytes() for name in names}
    path = pack(tmp_path / "module.tar.gz", content | {"./saved_model.pb": b"graph"})
    assert_same(read_tar_gz(path), saved_by_tensorflow())  # type: ignore[arg-type]
    del content["./variables/variables.data-00001-of-00002"]
    with pytest.raises(TrivdError, match=r"lacks variables/variables.data-00001-of-00002"):
        read_tar_gz(pack(path, content))
    assert [file.name for file in tmp_path.iterdir()] == ["module.tar.gz"]


@pytest.mark.parametrize("name", ["../x.index", "a/../../x.index", "/x.index"])
def test_an_archive_that_leads_out_of_itself_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrivdError, match="leads out"):
        read_tar_gz(pack(tmp_path / "m.tar.gz", {name: b""}))


def test_bad_archives_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrivdError, match="0 TensorFlow checkpoints"):  # links are not followed
        read_tar_gz(pack(tmp_path / "m.tar.gz", {"x.index": b""}, tarfile.SYMTYPE))
    path = pack(tmp_path / "m.tar.gz", {"x": bytes(1 << 20)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrivdError, match="damaged"):
        read_tar_gz(path)
    with pytest.raises(TrivdError, match="more than 10,000 files"):
        read_tar_gz(pack(path, {str(number): b"" for number in range(10_001)}))
    monkeypatch.setattr(tar, "LARGEST_BYTES", 1 << 18)
    with pytest.raises(TrivdError, match="unpacks to more"):
        read_tar_gz(pack(path, {"x": bytes(1 << 20)}))


def packed_header(size: bytes, kind: bytes, content: bytes) -> bytes:
    """A .tar.gz of one member."""
    member = tarfile.TarInfo("x.index")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[156:157] = size, kind
    if kind == b"S":  # GNU's sparse files: nothing is stored, and the file has 1 GB
        header[386:410] = b"%011o\0%011o\0" % (1 << 30, 0)
        header[483:495] = b"%011o\0" % (1 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return gzip.compress(bytes(header) + content + bytes(-len(content) % 512 + 1024))


HOSTILE_ARCHIVES = {
    "sparse file": (packed_header(b"%011o\0" % 0, b"S", b""), "holds a sparse file"),
    "vast size": (packed_header(b"%011o\0" % (1 << 32), b"0", b"x"), "unpacks to more than"),
    "more than there is": (packed_header(b"%011o\0" % (1 << 23), b"0", b"x"), "cut off"),
    "negative size": (packed_header(b"-0000000512\0", b"0", b"x"), "cut off"),
    "size in binary": (packed_header(b"\x80" + bytes(7) + b"\xff" * 4, b"0", b"x"), "header .* is wrong"),
    "digits for a search": (packed_header(b"%011o\0" % (1 << 20), b"x", b"1" * (1 << 20)), "0 TensorFlow checkpoints"),
    "bomb": (packed_header(b"%011o\0" % (1 << 27), b"0", bytes(1 << 27)), "unpacks to more than"),
    "many headers": (gzip.compress(b"\1" * (1 << 20)), "header .* is wrong"),
}


@pytest.mark.parametrize("name", HOSTILE_ARCHIVES)
def test_hostile_archives_take_neither_memory_nor_time(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE_ARCHIVES[name]
    path = tmp_path / "m.tar.gz"
    path.write_bytes(content)
    with cheaply(), pytest.raises(TrivdError, match=message):
        read_tar_gz(path)


def test_archives_of_every_format_are_read(tmp_path: Path) -> None:
    files = {name: (FILES / f"real.{name}").read_bytes() for name in ("index", "data-00000-of-00001")}
    folder = "a folder with a long name/" * 4
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{kind}.tar.gz"
        with tarfile.open(path, "w:gz", format=kind) as archive:
            for name, content in files.items():
                prefix = folder if kind == tarfile.USTAR_FORMAT else "./é/"
                member = tarfile.TarInfo(f"{prefix}variables.{name}")
                member.size, member.mtime = len(content), 1.5
                archive.addfile(member, io.BytesIO(content))
        assert_same(read_tar_gz(path), saved_by_tensorflow())  # type: ignore[arg-type]


def test_older_and_sliced_checkpoints_are_named() -> None:
    with pytest.raises(TrivdError, match="version 1 format"):
        read_checkpoint(FILES / "v1.ckpt")
    with pytest.raises(TrivdError, match="x is stored in slices"):
        read_checkpoint(FILES / "sliced.index")


def test_damage_of_the_data_is_found(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", {"w": np.ones(300, np.float32), "b": np.ones(2, np.float32)})
    data = tmp_path / "x.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[:700] + b"\x01" + content[701:])
    with pytest.raises(TrivdError, match="checksum of w is wrong"):
        read_checkpoint(tmp_path / "x.index")
    data.write_bytes(content[:1000])
    with pytest.raises(TrivdError, match="cut off"):
        read_checkpoint(tmp_path / "x.index")
    data.unlink()
    with pytest.raises(TrivdError, match=r"x\.data-00000-of-00001"):
        read_checkpoint(tmp_path / "x.index")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `real` whose index may be changed."""
    folder = tmp_path_factory.mktemp("copy")
    for path in FILES.glob("real.*"):
        shutil.copy(path, folder)
    return folder / "real.index"


@given(data=st.data())
def test_a_changed_index_is_an_error_or_the_same(index: Path, data: st.DataObject) -> None:
    content = bytearray((FILES / "real.index").read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[position] = data.draw(st.integers(0, 255))
    index.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 1, 48, 0]))])
    with contextlib.suppress(TrivdError):
        assert_same(read_checkpoint(index), saved_by_tensorflow())  # type: ignore[arg-type]


@given(
    header=st.binary(max_size=12), value=st.binary(max_size=30), position=st.integers(0, 40), byte=st.integers(0, 255)
)
def test_hostile_entries_with_right_checksums_are_errors(
    index: Path, header: bytes, value: bytes, position: int, byte: int
) -> None:
    right = bytearray(entry(np.ones((2, 3), np.float32), 0, 0, bytes(24)))
    right[position % len(right)] = byte
    for first, second in ((header, value), (field(1, 1), value), (field(1, 1), bytes(right)), (header, bytes(right))):
        index.write_bytes(table({b"": first, b"x": second}))
        with contextlib.suppress(TrivdError):
            assert sum(array.nbytes for array in read_checkpoint(index).values()) <= 1 << 12


def test_huge_sizes_take_no_memory(index: Path) -> None:
    size = (1 << 63) + 24
    vast = field(1, 1) + field(2, field(2, field(1, 1 << 62)) * 2) + field(5, size)
    for value in (vast, field(1, 1) + field(4, size) + field(5, size), field(1, 1) + field(3, 1 << 40) + field(5, 4)):
        index.write_bytes(table({b"": field(1, 1), b"x": value}))
        with pytest.raises(TrivdError, match="x"):
            read_checkpoint(index)
    index.write_bytes(table({b"": field(1, 1 << 40)}))
    with pytest.raises(TrivdError, match="files of data"):
        read_checkpoint(index)
    data = index.with_name("real.data-00000-of-00001").read_bytes()
    same = entry(np.ones((2, 3), np.float32), 0, 0, data[:24])
    index.write_bytes(table({b"": field(1, 1)} | {b"%03d" % n: same for n in range(len(data) // 24 + 1)}))
    with pytest.raises(TrivdError, match=f"{len(data) // 24} does not fit"):  # many tensors of the same bytes
        read_checkpoint(index)
