"""LPIPS's weights: imported from PyTorch's files and the package's wheel, known by content, found, or asked for."""

import pickle
import subprocess
import zipfile
from pathlib import Path

import forked_reader
import pytest
import torch
from lpips_weights import Arrays, made_up
from safetensors.numpy import save_file

from trivd.config import EvaluationConfig
from trivd.evaluation.networks.choice import choose_lpips
from trivd.evaluation.networks.weights import perceptual
from trivd.evaluation.networks.weights.identify import content_sha256
from trivd.evaluation.networks.weights.perceptual import (
    find_lpips,
    install,
    installed_parts,
    load_lpips,
    parts_of_wheel,
    recognise_part,
)
from trivd.runtime.errors import TrivdError

CPU = torch.device("cpu")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, empty."""
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def alex() -> tuple[Arrays, Arrays]:
    return made_up("alex")


def test_parts_are_known_by_names_and_shapes(
    home: Path, tmp_path: Path, alex: tuple[Arrays, Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, heads = alex
    classifier = {"classifier.6.weight": heads["lin0.model.1.weight"]}
    save_file(weights | classifier, tmp_path / "backbone")
    save_file(heads, tmp_path / "heads")
    settings = EvaluationConfig()
    assert choose_lpips(settings, 64, CPU) is None
    with pytest.raises(TrivdError, match=r"LPIPS \(AlexNet\) lacks its backbone's weights"):
        load_lpips("alex", CPU)
    backbone = recognise_part(weights | classifier, tmp_path / "backbone")
    head = recognise_part(heads, tmp_path / "heads")
    assert backbone is not None
    assert head is not None
    assert (backbone.name, backbone.kind, head.name, head.kind) == ("alex", "backbone", "alex", "heads")
    assert backbone.about == f"unknown AlexNet {content_sha256(weights)[:8]}"
    assert install(backbone, "x") == (home / "lpips-alex-backbone.safetensors", False)
    with pytest.raises(TrivdError, match="lacks its heads' weights"):
        load_lpips("alex", CPU)
    assert install(head, "x")[1] is False
    assert install(head, "x")[1] is True
    assert (find_lpips(64), find_lpips(30)) == ("alex", None)
    network = choose_lpips(settings, 64, CPU)
    assert network is not None
    assert network.about == f"{backbone.about}, unknown heads {content_sha256(heads)[:8]}"
    assert choose_lpips(EvaluationConfig(lpips="none"), 64, CPU) is None
    with pytest.raises(TrivdError, match="at least 31 pixels"):
        choose_lpips(EvaluationConfig(lpips="alex"), 30, CPU)

    other, _ = made_up("alex", seed=1)
    part = recognise_part(other, tmp_path / "backbone")
    assert part is not None
    with pytest.raises(TrivdError, match="holds something else and is not overwritten"):
        install(part, "x")
    monkeypatch.setitem(perceptual.PUBLISHED_HEADS, "alex", content_sha256(heads))  # type: ignore[arg-type]
    monkeypatch.setattr(perceptual, "_file_sha256", lambda path: "7be5be79" + "0" * 56)
    known = [recognise_part(tensors, tmp_path / "any") for tensors in alex]
    assert [part and part.about for part in known] == ["AlexNet 7be5be79", "heads v0.1"]
    for path in home.iterdir():
        path.unlink()
    for part in known:
        assert part is not None
        install(part, "x")
    assert [part.about for part in installed_parts()] == ["AlexNet 7be5be79", "heads v0.1"]
    (home / "lpips-alex-heads.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrivdError, match="is damaged; remove it"):
        load_lpips("alex", CPU)


def test_other_tensors_are_no_parts(tmp_path: Path, alex: tuple[Arrays, Arrays]) -> None:
    weights, heads = alex
    for tensors in (weights | {"features.12.weight": weights["features.0.bias"]}, weights | heads, {}):
        assert recognise_part(tensors, tmp_path) is None
    bad = heads | {"lin4.model.1.weight": heads["lin4.model.1.weight"] * float("nan")}
    with pytest.raises(TrivdError, match="not finite"):
        recognise_part(bad, tmp_path)


def test_the_heads_of_a_wheel_are_those_of_version_0_1(
    tmp_path: Path, alex: tuple[Arrays, Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", forked_reader.run)
    state = {name: torch.from_numpy(values) for name, values in alex[1].items()}
    torch.save(state, tmp_path / "alex.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "alex.pth").read_bytes()
    wheel = tmp_path / "lpips.whl"
    for files in (
        {"lpips/weights/v0.0/alex.pth": b"x", "lpips/weights/v0.1/squeeze.pth": b"x", "lpips/lpips.py": b"x"},
        {},
    ):
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        assert parts_of_wheel(wheel) == []
    for data in (content, pickle.dumps({"w": 1})):
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("lpips/weights/v0.1/alex.pth", data)
        if data is content:
            (part,) = parts_of_wheel(wheel)
            assert content_sha256(part.weights) == content_sha256(alex[1])
    with pytest.raises(TrivdError, match=r"alex\.pth in .*lpips\.whl is damaged .*cannot be read as tensors alone"):
        parts_of_wheel(wheel)
    stored = b"numbers" * 100
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("lpips/weights/v0.1/alex.pth", stored)
    wheel.write_bytes(wheel.read_bytes().replace(stored, stored[::-1]))
    with pytest.raises(TrivdError, match=r"is damaged \(Bad CRC-32.*fetch it again"):
        parts_of_wheel(wheel)
