"""Pickles that only take memory or time, in each kind of PyTorch's files: refused, or read, within the limits."""

import pickle
import struct
import subprocess
import zipfile
from pathlib import Path

import forked_reader
import numpy as np
import pytest
from cost_checks import cheaply
from numpy.typing import NDArray

from trivd.evaluation.networks.weights.library import read_weights
from trivd.evaluation.networks.weights.readers import sandbox
from trivd.evaluation.networks.weights.readers.archives import LARGEST_PICKLE
from trivd.evaluation.networks.weights.readers.child import LONGEST_NAME, MOST_TENSORS
from trivd.evaluation.networks.weights.readers.pytorch import read_legacy, read_zip
from trivd.runtime.errors import TrivdError

REAL_RUN = subprocess.run
KINDS = ("program", "saved", "legacy")
START = b"\x80\x02"
STORAGE_END = b"<end of a storage's label>"
STEPS = 1 << 18  # opcodes of a large pickle
LEGACY_START = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})  # what PyTorch before 1.6 wrote first


@pytest.fixture(autouse=True)
def _without_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers are forked, which has the same limits: each start would take a second."""
    monkeypatch.setattr(subprocess, "run", forked_reader.run)


@pytest.fixture
def _started(monkeypatch: pytest.MonkeyPatch, _without_start: None) -> None:
    """Readers are started as the product starts them."""
    monkeypatch.setattr(subprocess, "run", REAL_RUN)


@pytest.fixture
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 0)


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integer(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def write(path: Path, kind: str, data: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """A file whose pickle is `data`, and storages of float32."""
    storages = storages or {}
    data = data.replace(STORAGE_END, b"NtQ" if kind == "legacy" else b"tQ")  # there, it can be a part of another one
    if kind == "legacy":
        numbers = [struct.pack("<q", len(content) // 4) + content for content in storages.values()]
        parts = [*(pickle.dumps(value, 2) for value in LEGACY_START), data, pickle.dumps(list(storages), 2), *numbers]
        path.write_bytes(b"".join(parts))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", data)
        if kind == "program":
            archive.writestr("x/constants.pkl", b"")
        for key, content in storages.items():
            archive.writestr(f"x/data/{key}", content)
    return path


def read(path: Path, kind: str) -> dict[str, NDArray[np.float32]]:
    return (read_legacy if kind == "legacy" else read_zip)(path)


def doubled(times: int, first: bytes = b"K\x01") -> bytes:
    """A tuple of the same tuple twice, of the same tuple twice, and so on: its hash and its text take 2^times steps."""
    return first + b"q\x00" + b"".join(b"h%c\x86q%c" % (level, level + 1) for level in range(times))


def storage(key: bytes = text("0"), elements: bytes = b"K\x01") -> bytes:
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + elements + STORAGE_END


def tensor(shape: bytes = b"K\x01\x85", strides: bytes = b"K\x01\x85", where: bytes | None = None) -> bytes:
    return b"ctorch._utils\n_rebuild_tensor\n(" + (where or storage()) + b"K\x00" + shape + strides + b"tR"


def named(value: bytes, name: str = "w") -> bytes:
    return START + b"}" + text(name) + value + b"s."


PRIME = (1 << 61) - 1  # the hashes of its multiples are 0
HUGE = integer((1 << 2000) - 1)
HOSTILE = {
    "nested tuples as a key": START + b"}" + doubled(60) + b"Ns.",
    "nested tuples among keys": START + b"}(" + doubled(60) + b"Nu.",
    "nested tuples as a key of pairs": START + b"ccollections\nOrderedDict\n](](" + doubled(60) + b"Neae\x85R.",
    "deep tuples as a key": START + b"})" + b"\x85" * (STEPS - 10) + b"Ns.",
    "very deep tuples as a key": START + b"})" + b"\x85" * (LARGEST_PICKLE - 10) + b"Ns.",
    "huge integers as keys": START + b"}(" + b"".join(integer(n * PRIME) + b"N" for n in range(1, 60_000)) + b"u.",
    "many dimensions": named(tensor(*(b"(" + HUGE + b"q\x00" + b"h\x00" * 5000 + b"t",) * 2)),
    "huge dimensions": named(tensor(b"(" + HUGE * 8 + b"t", b"(" + b"K\x01" * 8 + b"t")),
    "nested tuples as a storage's key": named(tensor(where=storage(b"]" + doubled(60)))),
    "nested tuples as a size": named(tensor(where=storage(elements=doubled(60)))),
    "nested tuples as a class": START + doubled(60) + b")R.",
    "nested tuples as an answer": START + doubled(60) + b".",
    "bytearray": START + b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 400 << 20) + b"\x85R.",
    "text cut off": START + b"X\xff\xff\xff\x7fa.",
    "bytes cut off": START + b"\x8e" + struct.pack("<q", 1 << 62) + b".",
    "many texts": START + b"(" + b"".join(text("") for _ in range(200_000)) + b"l.",
    "many steps": named(b"](" + b"N" * STEPS + b"e"),
    "a larger pickle than allowed": named(text("x" * LARGEST_PICKLE)),
    "too many tensors": named(b"](" + tensor() + b"q\x00" + b"h\x00" * MOST_TENSORS + b"e"),
    "a long name": named(b"](" + b"]" * 20_000 + b"e", "\U0001f600" * (LONGEST_NAME + 1)),
    "a dict in itself": START + b"}q\x00" + text("model") + b"h\x00s.",
    "itself in a list": START + b"]q\x00h\x00a.",
    "no end": START + b"N" * 100,
    "a mark too many": START + b"t.",
    "nothing": b"",
}


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_take_neither_memory_nor_time(tmp_path: Path, kind: str, name: str) -> None:
    path = write(tmp_path / "x.pt", kind, HOSTILE[name], {"0": bytes(4)})
    with cheaply(), pytest.raises(TrivdError, match=r"x\.pt"):  # what holds no tensors is not I3D
        read_weights(path)


@pytest.mark.usefixtures("little_time", "_started")
@pytest.mark.parametrize("kind", KINDS)
def test_a_started_reader_has_these_limits(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "x.pt", kind, HOSTILE["huge integers as keys"], {"0": bytes(4)})
    with pytest.raises(TrivdError, match=r"x\.pt"):
        read_weights(path)


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("saved", "nested tuples as a key", "too much time or memory"),
        ("legacy", "huge integers as keys", "too much time or memory"),
        ("program", "deep tuples as a key", "too much time or memory"),
        ("saved", "bytearray", "MemoryError"),
        ("legacy", "many dimensions", "Overflow"),
        ("program", "too many tensors", "more than 10,000 tensors"),
        ("program", "a long name", "nested too deep"),
        ("saved", "a dict in itself", r"no tensors, only \['model'\]"),
    ],
)
def test_the_reason_is_named(tmp_path: Path, kind: str, name: str, reason: str) -> None:
    with pytest.raises(TrivdError, match=reason):
        read(write(tmp_path / "x.pt", kind, HOSTILE[name], {"0": bytes(4)}), kind)


@pytest.mark.usefixtures("_started")
def test_a_loader_that_waits_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WALL_SECONDS", 0.1)
    with pytest.raises(TrivdError, match=r"more than 0\.1 seconds"):
        read(write(tmp_path / "x.pt", "saved", named(tensor()), {"0": bytes(4)}), "saved")


def test_paths_are_made_for_tensors_and_containers_alone(tmp_path: Path) -> None:
    for content, count in ((b"N", 200_000), (b"]", 200_000), (b"}", 200_000)):
        data = named(b"](" + content * count + tensor() + b"e", "\U0001f600" * (LONGEST_NAME - 10))
        with cheaply():
            (name,) = read(write(tmp_path / "x.pt", "program", data, {"0": bytes(4)}), "program")
        assert name.endswith(f".{count}")


def test_modules_with_the_same_attributes_are_entered_once(tmp_path: Path) -> None:
    shared = b"}(" + b"".join(text(str(n)) + b"N" for n in range(20_000)) + b"uq\x00"
    modules = b"c__torch__\nA\nq\x01)\x81h\x00b" + b"h\x01)\x81h\x00b" * 20_000
    with cheaply():
        assert read(write(tmp_path / "x.pt", "program", START + shared + b"](" + modules + b"e."), "program") == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_storage_is_read_once(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8).tobytes()
    content = (noise + bytes(15 << 16)) * 4  # 4 MB; a zip file packs them to an eighth
    elements = integer(len(content) // 4)
    first = tensor(where=storage(elements=elements) + b"q\x00")
    entries = b"".join(text(str(number)) + tensor(where=b"h\x00") for number in range(2000))
    path = write(tmp_path / "x.pt", kind, START + b"}(" + text("w") + first + entries + b"u.", {"0": content})
    with cheaply():
        assert len(read(path, kind)) == 2001


@pytest.mark.parametrize("kind", KINDS)
def test_views_of_one_storage_take_no_more_than_a_few_times_the_file(tmp_path: Path, kind: str) -> None:
    content = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8).tobytes()
    elements = integer(len(content) // 4)
    whole = elements + b"\x85"
    views = b"".join(text(str(number)) + tensor(whole, where=storage(elements=elements)) for number in range(1000))
    path = write(tmp_path / "x.pt", kind, START + b"}(" + views + b"u.", {"0": content})
    with cheaply(room=20 << 20), pytest.raises(TrivdError, match="overlap"):
        read(path, kind)


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    pairs = b"](]U\x01wa" + tensor() + b"ae"
    for kind in KINDS:
        path = write(
            tmp_path / "x.pt", kind, START + b"ccollections\nOrderedDict\n" + pairs + b"\x85R.", {"0": bytes(4)}
        )
        assert list(read(path, kind)) == ["w"]


def test_storages_of_old_files_are_those_of_their_tensors(tmp_path: Path) -> None:
    good = write(tmp_path / "x.pt", "legacy", named(tensor()), {"0": b"abcd"})
    assert read_legacy(good)["w"].tobytes() == b"abcd"
    for storages, reason in (({"0": bytes(8)}, "wrong byte size"), ({"1": bytes(4)}, "storage key '1' not found")):
        with pytest.raises(TrivdError, match=reason):
            read_legacy(write(tmp_path / "x.pt", "legacy", named(tensor()), storages))
