"""PyTorch's files: state dicts in either format, training files, safetensors; nothing but tensors is loaded."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cost_checks import cheaply
from safetensors.torch import save_file
from torch import Tensor, nn

from trivd.evaluation.networks.weights.readers.pytorch import read_legacy, read_safetensors, read_zip
from trivd.runtime.errors import TrivdError

STATE = OrderedDict(
    {
        "conv.weight": torch.arange(24.0).view(2, 3, 4).permute(2, 1, 0),
        "half": torch.tensor([0.5, 1.5], dtype=torch.float16),
        "brain": torch.tensor([0.5, 1.5], dtype=torch.bfloat16),
        "double": torch.tensor(1e-3, dtype=torch.float64),
        "steps": torch.tensor(3),
    }
)
FLOATS = {name: tensor.float().numpy() for name, tensor in STATE.items() if name != "steps"}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("keys", [(), ("state_dict",), ("model", "state_dict")])
def test_state_dicts_are_read_alone_or_in_a_training_file(tmp_path: Path, legacy: bool, keys: tuple[str, ...]) -> None:
    path = tmp_path / "weights.bin"
    loaded: dict[str, Any] = STATE
    for key in reversed(keys):
        loaded = {"epoch": 3, "optimizer": {"state": {0: {"moment": torch.ones(3)}}}, key: loaded}
    torch.save(loaded, path, _use_new_zipfile_serialization=not legacy)
    found = (read_legacy if legacy else read_zip)(path)
    assert found.keys() == FLOATS.keys()
    for name, array in FLOATS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.float32


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    save_file({name: tensor.contiguous() for name, tensor in STATE.items()}, path)
    found = read_safetensors(path)
    assert found.keys() == FLOATS.keys()
    np.testing.assert_array_equal(found["conv.weight"], FLOATS["conv.weight"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrivdError, match="damaged safetensors"):
        read_safetensors(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_modules_are_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "module.pt"
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(TrivdError, match=r"tensors alone .* save the model's state_dict\(\)"):
        (read_legacy if legacy else read_zip)(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"epoch": 3}, r"no tensors, only \['epoch'\]"), ([torch.ones(2)], "a list, not named tensors")],
)
def test_files_without_named_tensors_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(TrivdError, match=message):
        read_zip(tmp_path / "x.pt")


def test_files_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    for legacy, read in ((False, read_zip), (True, read_legacy)):
        vast = {"vast": torch.ones(1).expand(1 << 29)}  # a storage of one number
        torch.save(vast, path, _use_new_zipfile_serialization=not legacy)
        with cheaply(), pytest.raises(TrivdError, match="larger than its storage"):
            read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(100):
            archive.writestr(f"x/{number}", bytes(1 << 20))  # each small enough for its ratio not to matter
    with pytest.raises(TrivdError, match="unpacks to far more"):
        read_zip(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(1 << 21))
    with pytest.raises(TrivdError, match="unpacks to far more"):
        read_zip(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x/data.pkl", b"x")
    with pytest.raises(TrivdError, match="packed otherwise than by deflate"):
        read_zip(path)
    monkeypatch.setattr("trivd.evaluation.networks.weights.limits.LARGEST_BYTES", 100)
    for read in (read_zip, read_legacy, read_safetensors):
        with pytest.raises(TrivdError, match="name the right file"):
            read(path)


class Attack:
    """Makes a file when it is unpickled by a reader that calls what it is told to."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, legacy: bool) -> None:
    path, marker = tmp_path / "x.pt", tmp_path / "marker"
    torch.save({"w": torch.ones(2), "x": Attack(marker)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(TrivdError, match=r"not an allowed global|Unsupported operand"):
        (read_legacy if legacy else read_zip)(path)
    path.write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(TrivdError):
        read_legacy(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Attack(marker)))
    assert marker.exists()  # the attack is a real one


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_are_errors(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for size in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(TrivdError, match=r"x\.pt"):
            (read_legacy if legacy else read_zip)(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_training_files_are_read_as_torch_reads_them(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "x.pt"
    network = nn.Sequential(nn.Conv3d(3, 4, 2), nn.BatchNorm3d(4))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 3, 2, 2, 3)).sum().backward()
    optimizer.step()
    tensors = {"tied": network[0].weight, "part": torch.arange(12.0)[3:9:2], "size": torch.Size([1, 2]), "n": 1 << 40}
    state = network.state_dict() | tensors
    rest = {"optimizer": optimizer.state_dict(), "device": torch.device("cpu"), "type": torch.float32, 3: None}
    torch.save({**rest, "state_dict": state}, path, _use_new_zipfile_serialization=not legacy)
    loaded = torch.load(path, weights_only=True)["state_dict"]
    expected = {
        name: value for name, value in loaded.items() if isinstance(value, Tensor) and value.is_floating_point()
    }
    found = (read_legacy if legacy else read_zip)(path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.detach().numpy())


def test_a_second_directory_of_the_zip_file_is_not_read(tmp_path: Path) -> None:
    """Readers of zip files differ in where they look for the directory: behind the files, or where the end says."""
    path = tmp_path / "x.pt"
    torch.save({"w": torch.zeros(1 << 22)}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    content = (tmp_path / "packed").read_bytes()
    end = len(content) - 22
    size, start = struct.unpack("<II", content[end + 12 : end + 20])
    harmless = bytearray(content[start : start + size])
    entry_start = harmless.index(b"x/data/0") - 46
    harmless[entry_start + 24 : entry_start + 28] = (1000).to_bytes(4, "little")  # what it says to unpack to
    path.write_bytes(content[:end] + harmless + content[end:])
    assert len(torch.load(path, weights_only=True)["w"]) == 1 << 22
    with cheaply(room=10 << 20), pytest.raises(TrivdError, match=r"x\.pt"):
        read_zip(path)


@pytest.mark.parametrize("name", ["data.pkl", "data/0", "byteorder"])
def test_no_more_is_unpacked_than_a_zip_file_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.pt"
    torch.save({"w": torch.zeros(1 << 10)}, tmp_path / "saved")
    with zipfile.ZipFile(tmp_path / "saved") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            bomb = entry.filename == f"saved/{name}"
            packed.writestr(entry.filename, bytes(1 << 28) if bomb else source.read(entry))
            packed.getinfo(entry.filename).file_size = entry.file_size  # which goes into the directory
    with cheaply(room=20 << 20), pytest.raises(TrivdError, match=r"x\.pt"):
        read_zip(path)
