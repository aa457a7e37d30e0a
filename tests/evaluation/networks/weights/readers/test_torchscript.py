"""TorchScript archives are read as tensors: what a program or a pickle in them asks for is never done."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cost_checks import cheaply
from hypothesis import given
from hypothesis import strategies as st
from i3d_files import write_torchscript
from numpy.typing import NDArray

from trivd.evaluation.networks.weights.readers import archives, child
from trivd.evaluation.networks.weights.readers.archives import LARGEST_RATIO, copy_data, is_torchscript, open_zip
from trivd.evaluation.networks.weights.readers.pytorch import read_zip
from trivd.evaluation.networks.weights.readers.sandbox import read_arrays
from trivd.runtime.errors import TrivdError

STATE = {
    "conv3d_1a_7x7.conv3d.weight": torch.arange(24.0).view(2, 3, 4).permute(2, 1, 0),
    "branch_1.0.bn.bias": torch.tensor([0.5, 1.5], dtype=torch.float16),
    "branch_1.1.bn.bias": torch.tensor([[1e-3]], dtype=torch.float64),
    "branch_1.1.bn.num_batches_tracked": torch.tensor(3),
    "tail": torch.arange(10.0)[3:9:2],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tensors_of_a_program_are_read(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    write_torchscript(path, STATE)
    with open_zip(path) as archive:
        assert is_torchscript(archive)
    found = read_zip(path)
    assert found.keys() == STATE.keys() - {"branch_1.1.bn.num_batches_tracked"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, STATE[name].float().numpy())


def archive_of(path: Path, data: bytes, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"constants.pkl": b"", "data.pkl": data, **files}.items():
            archive.writestr(f"x/{name}", content)
    return path


def read(tmp_path: Path, data: bytes, *, room: int = 1 << 20, **files: bytes) -> dict[str, NDArray[np.float32]]:
    """What the child does, in this process: to start one takes a second.

    Raises:
        ValueError: the reason that the child would give.
    """
    copy, target = tmp_path / "copy.pt", tmp_path / "tensors"
    with open_zip(archive_of(tmp_path / "x.pt", data, **files)) as archive:
        copy_data(archive, copy)
    try:
        child.convert(copy, target, child.PROGRAM, room)
    except Exception as error:
        raise ValueError(child.reason(error)) from error
    return read_arrays(target)


class Call:
    """Pickles as a call of a function, and what else __reduce__ may ask for."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced

    def __call__(self) -> None:
        """So that it can stand for a function in another call."""


def calls(marker: Path) -> dict[str, bytes]:
    """Programs that make a file, or prepare to."""
    import builtins
    import functools
    import operator
    import os
    import subprocess

    touch = f"touch {marker}"
    attempts = {
        "system": Call(os.system, (touch,)),
        "popen": Call(subprocess.check_output, (["touch", str(marker)],)),
        "eval": Call(builtins.eval, (f"open({str(marker)!r}, 'w')",)),
        "exec": Call(builtins.exec, (f"open({str(marker)!r}, 'w')",)),
        "getattr": Call(Call(builtins.getattr, (Call(builtins.__import__, ("os",)), "system")), (touch,)),
        "attrgetter": Call(operator.attrgetter, ("system",)),
        "partial": Call(functools.partial, (os.system, touch)),
        "jit": Call(torch.jit.load, (str(marker),)),
        "storage": Call(torch.load, (str(marker),)),
    }
    return {name: pickle.dumps(attempt, 2) for name, attempt in attempts.items()}


RAW = {  # opcodes by hand
    "old instance": b"(X\x0c\x00\x00\x00touch MARKERios\nsystem\n.",
    "old object": b"(cos\nsystem\nX\x0c\x00\x00\x00touch MARKERo.",
    "stacked global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
    "dotted name": b"\x80\x02ctorch\n_utils.os.system\nX\x0c\x00\x00\x00touch MARKER\x85R.",
    "name like a storage": b"\x80\x02ctorch\nos.systemStorage\nX\x0c\x00\x00\x00touch MARKER\x85R.",
    "private function": b"\x80\x02ctorch._utils\n_import_dotted_name\nX\x02\x00\x00\x00os\x85R.",
    "method of a container": b"\x80\x02ccollections\nOrderedDict.fromkeys\n]\x85R.",
    "extension": b"\x80\x02\x82\x01.",
    "state of a class": b"\x80\x02c__torch__.A\nB\n}X\x0c\x00\x00\x00__setstate__K\x01sb.",
    "slots of a class": b"\x80\x02c__torch__.A\nB\nN}X\x0c\x00\x00\x00__setstate__K\x01s\x86b.",
    "slots of a container": b"\x80\x02ccollections\nOrderedDict\nN}X\x06\x00\x00\x00updateK\x01s\x86b.",
    "state of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__call__K\x01sb.",
    "slots of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00__call__K\x01s\x86b.",
    "arguments of a class": b"\x80\x02c__torch__.A\nB\nK\x01\x85R.",
    "other reference": b"\x80\x02X\x06\x00\x00\x00modulectorch\nFloatStorage\nK\x00K\x00K\x00t.",
    "vast text": b"\x80\x02X\xff\xff\xff\x7fa.",
    "cut off": b"\x80\x02}",
    "empty": b"",
}


@pytest.mark.parametrize("name", [*calls(Path("x")), *RAW])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "MARKER"
    with pytest.raises(ValueError):  # noqa: PT011
        read(tmp_path, calls(marker)[name] if name in calls(marker) else RAW[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.pt", "x.pt"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("old instance", "Unsupported operand 105"),
        ("extension", "Unsupported operand 130"),
        ("system", r"posix\.system whose module posix is blocked"),
        ("private function", r"torch\._utils\._import_dotted_name was not an allowed global"),
    ],
)
def test_the_reason_is_named(tmp_path: Path, name: str, reason: str) -> None:
    path = archive_of(tmp_path / "x.pt", RAW.get(name) or calls(tmp_path)[name])
    with pytest.raises(TrivdError, match=rf"x\.pt cannot be read as tensors alone \(.*{reason}.*\); save the model's"):
        read_zip(path)


def test_the_attacks_work_on_an_open_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "MARKER"
    for attack in (calls(marker)["system"], calls(marker)["eval"], RAW["old instance"], RAW["stacked global"]):
        marker.unlink(missing_ok=True)
        pickle.loads(attack)
        assert marker.exists()


def test_far_memos_take_no_memory(tmp_path: Path) -> None:
    with cheaply():
        assert read(tmp_path, b"\x80\x02Nr\xff\xff\xff\x7f.") == {}


def test_modules_are_bags_whatever_their_state_says(tmp_path: Path) -> None:
    empty = b"\x80\x02c__torch__.os\nsystem\n)\x81"
    assert read(tmp_path, empty + b".") == {}
    assert read(tmp_path, empty + b"X\x05\x00\x00\x00stateb.") == {}
    cyclic = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
    assert read(tmp_path, cyclic) == {}


def tensor(
    elements: int = 6,
    key: str = "0",
    offset: int = 0,
    shape: Any = (2, 3),
    strides: tuple[int, ...] = (3, 1),
    times: int = 1,
) -> bytes:
    """A pickle of {"w": [a tensor, ...]}."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", torch.FloatStorage, key, "cpu", elements) if obj is storage else None

    storage = object()
    file = io.BytesIO()
    view = Call(torch._utils._rebuild_tensor_v2, (storage, offset, shape, strides, False, None))
    Pickler(file, 2).dump({"w": [view] * times})
    return file.getvalue()


NUMBERS = np.arange(6, dtype="<f4")
STORED = {"data/0": NUMBERS.tobytes()}


def test_views_are_those_of_pytorch(tmp_path: Path) -> None:
    views = ((0, (2, 3), (3, 1)), (1, (2, 2), (1, 3)), (5, (1,), (1,)), (2, (), ()), (1, (2,), (0,)))
    for offset, shape, strides in views:
        found = read(tmp_path, tensor(6, "0", offset, shape, strides), **STORED)
        expected = torch.from_numpy(NUMBERS).as_strided(shape, strides, offset)
        np.testing.assert_array_equal(found["w.0"], expected)
    swapped = {"data/0": NUMBERS.astype(">f4").tobytes(), "byteorder": b"big"}
    np.testing.assert_array_equal(read(tmp_path, tensor(), **swapped)["w.0"], NUMBERS.reshape(2, 3))


@pytest.mark.parametrize(
    "changes",
    [
        {"elements": 7},
        {"elements": 5},
        {"elements": True, "shape": (1,), "strides": (1,)},
        {"key": "1"},
        {"key": "../../secret"},
        {"offset": 1},
        {"offset": -1},
        {"shape": (3, 3), "strides": (0, 1)},
        {"shape": (1 << 62, 2), "strides": (0, 0)},
        {"strides": (4, 1)},
        {"strides": (-3, 1)},
        {"strides": (1,)},
        {"shape": (0, 3)},
        {"shape": ("2", "3")},
    ],
)
def test_views_beyond_their_storage_are_errors(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read(tmp_path, tensor(**changes), **STORED)


def test_bombs_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data/0", bytes(1 << 21))
    assert (1 << 21) / path.stat().st_size > LARGEST_RATIO
    with pytest.raises(TrivdError, match="unpacks to far more"):
        read_zip(path)
    deep = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 1000 + b"N" + b"s" * 1000 + b"."
    with pytest.raises(ValueError, match="nested too deep"):
        read(tmp_path, deep)
    many = tensor(times=300)
    assert len(read(tmp_path, many, **STORED)) == 300
    with pytest.raises(ValueError, match="overlap"):
        read(tmp_path, many, room=300 * NUMBERS.nbytes - 1, **STORED)
    monkeypatch.setattr(child, "MOST_TENSORS", 299)
    with pytest.raises(ValueError, match="more than 299 tensors"):
        read(tmp_path, many, **STORED)
    monkeypatch.setattr(archives, "LARGEST_PICKLE", len(many) - 1)
    with pytest.raises(ValueError, match=r"data.pkl has .* bytes"):
        read(tmp_path, many, **STORED)


@given(st.integers(0, 400), st.integers(0, 255), st.sampled_from([tensor, lambda: RAW["stacked global"]]))
def test_changed_pickles_are_errors_or_tensors(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int, make: Callable[[], bytes]
) -> None:
    data = bytearray(make())
    data[position % len(data)] = byte
    try:
        found = read(tmp_path_factory.getbasetemp(), bytes(data), **STORED)
    except ValueError:
        return
    assert all(array.size <= NUMBERS.size for array in found.values())
