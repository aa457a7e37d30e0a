"""Whatever file I3D comes in, the same weights arrive, are kept once, and run."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from bundle_writer import write_checkpoint
from i3d_files import hassony2, piergiaj, write_torchscript
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from trivd.evaluation.networks.weights.identify import identify
from trivd.evaluation.networks.weights.library import (
    find_i3d,
    import_weights,
    inspect,
    load_i3d,
    read_weights,
)
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import library_folder

Arrays = dict[str, NDArray[np.float32]]
LOGITS = Path(__file__).parents[5] / "shared" / "i3d" / "logits.npz"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, empty."""
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def saved(variables: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A safetensors file of the made-up variables."""
    path = tmp_path_factory.mktemp("weights") / "i3d.safetensors"
    save_file(variables, path)
    return path


def write(kind: str, path: Path, variables: Arrays) -> Path:
    """The variables in a file of some kind; its name says nothing."""
    if kind == "checkpoint":
        write_checkpoint(path, variables, shards=2)
    elif kind == "zip":
        torch.save({"state_dict": piergiaj(variables)}, path)
    elif kind == "legacy":
        torch.save(hassony2(variables), path, _use_new_zipfile_serialization=False)
    elif kind == "program":
        write_torchscript(path, hassony2(variables))
    else:
        save_file(variables, path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("kind", ["checkpoint", "zip", "legacy", "program", "safetensors"])
def test_the_same_weights_arrive_from_every_kind_of_file(
    home: Path, tmp_path: Path, variables: Arrays, kind: str
) -> None:
    imported = import_weights(write(kind, tmp_path / "weights.bin", variables), None, reference_only=True)
    assert imported.path == home / "i3d.safetensors"
    assert imported.how == "content"
    assert not imported.already_there
    found = read_weights(imported.path).variables
    assert found.keys() == variables.keys()
    assert all(np.array_equal(found[name], value) for name, value in variables.items())
    with safe_open(imported.path, "np") as file:
        assert file.metadata()["source"] == "weights.bin"
        assert file.metadata()["sha256"] == identify(variables).sha256


@pytest.mark.usefixtures("home")
def test_a_file_is_never_overwritten(tmp_path: Path, saved: Path, variables: Arrays) -> None:
    first = import_weights(saved, None)
    assert first.how == "names"
    content = first.path.read_bytes()
    assert import_weights(saved, None).already_there
    name = "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/b"
    save_file({**variables, name: variables[name] + 1}, tmp_path / "other")
    with pytest.raises(TrivdError, match=r"i3d\.safetensors holds something else and is not overwritten"):
        import_weights(tmp_path / "other", None)
    with pytest.raises(TrivdError, match="is not overwritten"):
        import_weights(saved, tmp_path / "other")
    assert first.path.read_bytes() == content
    elsewhere = import_weights(tmp_path / "other", tmp_path / "new" / "file")
    assert inspect(elsewhere.path).sha256 != first.identification.sha256
    with pytest.raises(TrivdError, match=r"0 variables differ; .* --allow-unknown"):
        import_weights(saved, tmp_path / "third", reference_only=True)
    assert not (tmp_path / "third").exists()
    (tmp_path / "text").write_text("a folder would have to be here")
    with pytest.raises(TrivdError, match="cannot be written"):
        import_weights(saved, tmp_path / "text" / "file")


def test_the_library_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVD_HOME", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert library_folder() == Path("/a")
    monkeypatch.delenv("TRIVD_HOME")
    assert library_folder() == Path("/b/trivd")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert library_folder() == Path.home() / ".cache" / "trivd"


@pytest.mark.usefixtures("home")
def test_weights_are_found_or_asked_for(saved: Path, tmp_path: Path) -> None:
    assert find_i3d(None) is None
    with pytest.raises(TrivdError, match="run `trivd weights download`"):
        load_i3d(None, torch.device("cpu"))
    with pytest.raises(TrivdError, match=r"no I3D weights at .*absent"):
        find_i3d(tmp_path / "absent")
    assert find_i3d(saved) == saved
    write_checkpoint(tmp_path / "prefix", {})
    assert find_i3d(tmp_path / "prefix") == tmp_path / "prefix"
    path = import_weights(saved, None).path
    assert find_i3d(None) == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrivdError, match="damaged safetensors"):
        load_i3d(None, torch.device("cpu"))


@pytest.mark.skipif(not LOGITS.is_file(), reason="the shared reference values of I3D are not here")
@pytest.mark.usefixtures("home")
def test_imported_weights_give_the_reference_s_logits(
    tmp_path: Path, variables: Arrays, fake_weights: ModuleType
) -> None:
    import_weights(write("zip", tmp_path / "weights.pt", variables), None)
    network = load_i3d(None, torch.device("cpu"))
    assert network.distance == f"FVD (unknown I3D weights {identify(variables).sha256[:8]})"
    expected = np.load(LOGITS)["c9/logits"]
    found = network(torch.from_numpy(fake_weights.fake_video("c9", 1, 9, 224, 224))).logits.numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.usefixtures("reference")
def test_the_reference_is_called_fvd(saved: Path) -> None:
    network = load_i3d(saved, torch.device("cpu"))
    assert (network.distance, network.inception) == ("FVD", "IS")


@pytest.mark.parametrize("content", [b"", b"x", b"hello, world, this is text", b"\x89HDF\r\n\x1a\n" + bytes(99)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(TrivdError, match="no file of weights that trivd reads"):
        read_weights(path)
    with pytest.raises(TrivdError, match="There is no file"):
        read_weights(tmp_path / "absent")
    path.unlink()
    with pytest.raises(TrivdError, match="holds no TensorFlow checkpoint"):
        read_weights(tmp_path)
