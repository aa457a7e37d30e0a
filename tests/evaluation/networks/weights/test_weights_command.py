"""The command: what it says, and what a download accepts."""

import io
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import save, save_file

from trivd.commands.weights import Weights
from trivd.evaluation.networks.weights import download
from trivd.evaluation.networks.weights.download import HUB_URL, fetch
from trivd.evaluation.networks.weights.identify import identify
from trivd.runtime.errors import TrivdError

Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `trivd weights ...` with an empty library; returns what it prints."""
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path / "home"))

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


class Response(io.BytesIO):
    """What a server answers."""

    def __init__(self, content: bytes, address: str, length: int | None) -> None:
        super().__init__(content)
        self.address = address
        self.headers = Message()
        if length is not None:
            self.headers["Content-Length"] = str(length)

    def geturl(self) -> str:
        return self.address


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Replaces the network: sets what it answers, returns the requests."""

    def answer(content: bytes, address: str = "https://host/x", length: int | None = None) -> list[Any]:
        requests: list[Any] = []

        def urlopen(request: Any, timeout: float) -> Response:
            requests.append((request.full_url, timeout))
            return Response(content, address, length)

        monkeypatch.setattr(download, "urlopen", urlopen)
        return requests

    return answer


@pytest.mark.usefixtures("reference")
def test_the_default_is_the_hub_s_module(
    run: Callable[..., str], serve: Callable[..., list[Any]], variables: Arrays
) -> None:
    content = save(variables)
    requests = serve(content, length=len(content))
    assert "Identity: FVD reference" in run("download")
    assert requests == [(HUB_URL, 30)]
    serve(b"<html>Please log in</html>")
    with pytest.raises(TrivdError, match=r"What https://host gave cannot be used: .* no file of weights"):
        run("download", "--url", "https://host")


def test_a_download_counts_its_bytes(
    tmp_path: Path, serve: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, int | None]] = []
    monkeypatch.setattr(download, "CHUNK_BYTES", 4)
    serve(b"0123456789", length=10)
    path = fetch("https://host/a/b.pt?c=d", tmp_path, lambda *step: steps.append(step))
    assert (path, path.read_bytes()) == (tmp_path / "b.pt", b"0123456789")
    assert steps == [(4, 10), (8, 10), (10, 10)]
    serve(b"012345678", length=10)
    with pytest.raises(TrivdError, match="broke off after 9 of 10 bytes"):
        fetch("https://host/x", tmp_path, lambda *_: None)
    monkeypatch.setattr(download, "LARGEST_BYTES", 8)
    for length in (None, 10):
        serve(b"0123456789", length=length)
        with pytest.raises(TrivdError, match="larger than"):
            fetch("https://host/x", tmp_path, lambda *_: None)
    serve(b"", "http://host/x")
    with pytest.raises(TrivdError, match="leads to http://host/x"):
        fetch("https://host/x", tmp_path, lambda *_: None)
    with pytest.raises(TrivdError, match="open connection"):
        fetch("http://host/x", tmp_path, lambda *_: None)


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match=r"Could not download .* without a network, fetch the file elsewhere"):
        fetch("https://localhost:1/x", tmp_path, lambda *_: None)
