"""Models on disk: bit for bit the same when read again, and a sentence for every way in which they can be broken."""

import json
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cost_checks import cheaply
from safetensors.torch import load_file, save_file

from trivd.models.generator import Generator
from trivd.models.pretrained import load_generator, save_generator
from trivd.runtime.errors import TrivdError

CPU = torch.device("cpu")
HISTORY = {"data": "moving-digits", "step": 12, "config": {"training": {"seed": 3}}}
UNITS = ["tsru_p", "conv_lstm", "ptsru_s", "k_traj_gru", "dynamic_conv_lstm"]


@pytest.fixture(scope="module")
def saved(make_generator: Callable[..., Generator], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_generator(make_generator(), folder, HISTORY)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize("unit", UNITS)
def test_a_model_comes_back_bit_for_bit(make_generator: Callable[..., Generator], tmp_path: Path, unit: str) -> None:
    generator = make_generator(unit=unit, classes=2, image_channels=1)
    save_generator(generator, tmp_path / "a" / "model", HISTORY)
    loaded, history = load_generator(tmp_path / "a" / "model", CPU)
    assert history == HISTORY
    assert loaded.config == generator.config
    assert not loaded.training
    tensors, again = generator.state_dict(), loaded.state_dict()
    assert tensors.keys() == again.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, again[name]), name
    frames, z, labels = torch.rand(2, 2, 1, 32, 32) * 2 - 1, torch.randn(2, 4), torch.tensor([1, 0])
    with torch.no_grad():
        assert torch.equal(generator(frames, z, labels).video, loaded(frames, z, labels).video)


def test_the_files_are_the_hubs_and_need_no_trivd(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    tensors = load_file(saved / "model.safetensors")
    assert tensors["output_norm.standing_mean"].isfinite().all()
    header = json.loads((saved / "config.json").read_text())
    assert header["format"] == "trivd-generator"
    assert header["model"]["predicted_frames"] == 3
    assert header["history"] == HISTORY


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(TrivdError, match=f"not a trivd model: it has no {name}"):
        load_generator(copied, CPU)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"format": "other"}', b'{"version": 1}'])
def test_a_description_of_something_else_is_refused(copied: Path, content: bytes) -> None:
    (copied / "config.json").write_bytes(content)
    with pytest.raises(TrivdError, match=r"config\.json is not the description of a trivd model"):
        load_generator(copied, CPU)


def change(folder: Path, **entries: Any) -> None:
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(header | entries))


def test_a_later_format_is_refused(copied: Path) -> None:
    change(copied, version=4)
    with pytest.raises(TrivdError, match="format version 4, which needs a newer trivd"):
        load_generator(copied, CPU)


# In version 1 the size of f was no setting: half of its flattened input for factorized kernels.
@pytest.mark.parametrize(
    ("unit", "hidden"), [("tsru_p", (0.5, 4.0)), ("k_traj_gru", (0.5, 4.0)), ("ptsru_c", (0.5, 0.25))]
)
def test_a_model_of_version_1_has_its_old_sizes(
    make_generator: Callable[..., Generator], tmp_path: Path, unit: str, hidden: tuple[float, float]
) -> None:
    generator = make_generator(unit=unit, warp_hidden=hidden)
    save_generator(generator, tmp_path / "model", HISTORY)
    model = json.loads((tmp_path / "model" / "config.json").read_text())["model"]
    for setting in ("warp_hidden", "warp_padding", "generator_widths"):
        del model[setting]
    change(tmp_path / "model", version=1, model=model)
    loaded, history = load_generator(tmp_path / "model", CPU)
    assert loaded.config == generator.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in generator.state_dict().items())
    assert history["config"]["training"] == HISTORY["config"]["training"]
    assert history["config"]["discriminator"] == {"temporal_pooling": False}


def test_a_model_of_version_2_is_as_it_was(make_generator: Callable[..., Generator], tmp_path: Path) -> None:
    """Its warps had one size, and a start by name: 0.21 on the centre was "copy" at k = 5."""
    generator = make_generator(unit="tsru_p", warp_size=(5,), warp_start_weight=0.21)
    save_generator(generator, tmp_path / "model", HISTORY)
    model = json.loads((tmp_path / "model" / "config.json").read_text())["model"]
    del model["warp_start_weight"], model["gate_bias"]
    change(tmp_path / "model", version=2, model=model | {"warp_size": 5, "warp_start": "copy"})
    loaded, history = load_generator(tmp_path / "model", CPU)
    assert loaded.config == generator.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in generator.state_dict().items())
    assert history["config"] == HISTORY["config"]


def test_sizes_that_version_1_did_not_have_are_refused_in_it(copied: Path) -> None:
    change(copied, version=1, model={"unit": "tsru_p"})
    with pytest.raises(TrivdError, match="damaged or belongs to another model"):
        load_generator(copied, CPU)


@pytest.mark.parametrize(("setting", "value"), [("unit", "gru"), ("colour", 3), ("resolution", 33), ("links", "1")])
def test_settings_that_do_not_fit_are_named(copied: Path, setting: str, value: Any) -> None:
    header = json.loads((copied / "config.json").read_text())
    change(copied, model=header["model"] | {setting: value})
    with pytest.raises(TrivdError, match=rf"config\.json.*{setting}"):
        load_generator(copied, CPU)


@pytest.mark.parametrize("model", [3, None, [], "tsru_p", {"recurrent_resolutions": 8}])
def test_settings_that_are_none_are_refused(copied: Path, model: Any) -> None:
    change(copied, model=model)
    with pytest.raises(TrivdError, match=r"config\.json does not fit this version of trivd"):
        load_generator(copied, CPU)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def drop_a_tensor(file: Path) -> None:
    tensors = load_file(file)
    tensors.pop("output.weight")
    save_file(tensors, file)


def resize_a_tensor(file: Path) -> None:
    save_file(load_file(file) | {"output.weight": torch.zeros(1)}, file)


@pytest.mark.parametrize("damage", [cut, empty, drop_a_tensor, resize_a_tensor])
def test_damaged_weights_are_refused(copied: Path, damage: Callable[[Path], None]) -> None:
    damage(copied / "model.safetensors")
    with pytest.raises(TrivdError, match=r"model\.safetensors is damaged or belongs to another model"):
        load_generator(copied, CPU)


HUGE = [
    ("generator_channels", 10**9),
    ("generator_channels", 10**5),
    ("predicted_frames", 10**30),
    ("predicted_frames", 1_024),
    ("conditioning_frames", 10**9),
    ("classes", 10**12),
    ("latent_dim", 10**15),
    ("kernel_size", 10**6 + 1),
    ("warp_size", [10**4 + 1]),
    ("warp_size", [10**6 + 1]),
    ("warp_kernels", 10**9),
]


@pytest.mark.parametrize(("setting", "value"), HUGE)
def test_huge_models_are_refused_without_memory(copied: Path, setting: str, value: int) -> None:
    header = json.loads((copied / "config.json").read_text())
    change(copied, model=header["model"] | {"warp_start_weight": 0.5, setting: value})
    with cheaply(50 << 20), pytest.raises(TrivdError, match=rf"config\.json(: model\.{setting} is| describes a model)"):
        load_generator(copied, CPU)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"model":' * 100_000, " " * (1 << 21)])
def test_deep_or_long_descriptions_are_refused(copied: Path, text: str) -> None:
    (copied / "config.json").write_text(text)
    with pytest.raises(TrivdError, match=r"config\.json is not the description"):
        load_generator(copied, CPU)


@pytest.mark.parametrize("history", [{"config": 3}, {"data": None}, {"step": "12"}])
def test_a_history_of_other_kinds_is_refused(copied: Path, history: dict[str, Any]) -> None:
    change(copied, history=HISTORY | history)
    with pytest.raises(TrivdError, match=r"config\.json is not the description"):
        load_generator(copied, CPU)


def header_length(content: bytes) -> bytes:
    return struct.pack("<Q", 1 << 60) + content[8:]


def reach_beyond_the_file(content: bytes) -> bytes:
    return content.replace(b"[0,", b"[9,", 1)


def claim_a_vast_shape(content: bytes) -> bytes:
    return re.sub(rb'"shape":\[\d', b'"shape":[9', content, count=1)


def pickled(content: bytes) -> bytes:
    return pickle.dumps(HISTORY) + content


@pytest.mark.parametrize("lie", [header_length, reach_beyond_the_file, claim_a_vast_shape, pickled])
def test_weights_that_lie_are_refused(copied: Path, lie: Callable[[bytes], bytes]) -> None:
    file = copied / "model.safetensors"
    changed = lie(file.read_bytes())
    assert changed != file.read_bytes()
    file.write_bytes(changed)
    with pytest.raises(TrivdError, match=r"model\.safetensors is damaged or belongs to another model"):
        load_generator(copied, CPU)
