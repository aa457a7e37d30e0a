"""I3D's variables with made-up values, sums that make them pass for the reference, and a server of files."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from page_server import Server, serving

from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.evaluation.networks.weights import identify, mapping
from trivd.evaluation.networks.weights.online import pip_settings

FAKE_WEIGHTS = Path(__file__).parents[5] / "shared" / "i3d" / "fake_weights.py"


@pytest.fixture(scope="session")
def fake_weights() -> ModuleType | None:
    """The shared makers of variables and videos."""
    if not FAKE_WEIGHTS.is_file():
        return None
    spec = importlib.util.spec_from_file_location("fake_weights", FAKE_WEIGHTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def variables(fake_weights: ModuleType | None) -> dict[str, NDArray[np.float32]]:
    """All 230 by TensorFlow's names, in its layout; not to be changed."""
    rng = np.random.default_rng(0)
    return {
        name: fake_weights.fake_variable(name, shape).astype(np.float32)
        if fake_weights
        else rng.random(shape, np.float32) + np.float32(0.1 if name.endswith("variance") else -0.5)
        for name, shape in variable_shapes().items()
    }


@pytest.fixture
def reference(variables: dict[str, NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the made-up variables for the reference's."""
    sums = {name: identify.crc32c(value) for name, value in variables.items()}
    for module in (identify, mapping):
        monkeypatch.setattr(module, "reference_sums", lambda: sums)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and no pip, proxy or passwords of the machine's own."""
    for name in os.environ:
        if name.startswith("PIP_") or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setattr(pip_settings, "_configuration", dict)
    with serving() as running:
        yield running
