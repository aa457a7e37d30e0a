"""PyTorch's files: state dicts in either format, training files, safetensors; nothing but tensors is loaded."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trivd.errors import TrivdError
from trivd.evaluation.weights.pytorch import read_pickle, read_safetensors, read_zip

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
    found = (read_pickle if legacy else read_zip)(path)
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
        read_pickle(path)


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
    torch.save({"vast": torch.ones(1).expand(1 << 29)}, path)  # a storage of one number
    with pytest.raises(TrivdError, match="far more numbers"):
        read_zip(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(1 << 21))
    with pytest.raises(TrivdError, match="unpacks to far more"):
        read_zip(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x/data.pkl", b"x")
    with pytest.raises(TrivdError, match="packed otherwise than by deflate"):
        read_zip(path)
    monkeypatch.setattr("trivd.evaluation.weights.limits.LARGEST_BYTES", 100)
    for read in (read_zip, read_pickle, read_safetensors):
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
    with pytest.raises(TrivdError):
        read_pickle(path)
    path.write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(TrivdError):
        read_pickle(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Attack(marker)))
    assert marker.exists()  # the attack is a real one


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(STATE, path)
    content = path.read_bytes()
    for size in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(TrivdError, match=r"x\.pt"):
            read_zip(path)
