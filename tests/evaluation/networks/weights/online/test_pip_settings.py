"""pip's configuration as `pip config list` prints it, and pip's environment variables."""

import subprocess
from typing import Any

import pytest

from trivd.evaluation.networks.weights.online import pip_settings as module
from trivd.evaluation.networks.weights.online.pip_settings import PYPI, PipSettings, pip_settings
from trivd.runtime.errors import TrivdError

CONFIGURATION = module._configuration
LISTED = r"""
:env:.timeout='9'
download.cert='/certificates'
global.cert='/not/these'
global.extra-index-url='\nhttps://b/simple\nhttps://u:p%40@c/simple'
global.index-url='https://a/simple'
global.trusted-host='a c:80'
install.proxy='not for downloads'
"""


@pytest.mark.usefixtures("server")
def test_it_is_read_from_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-P", "-m", "pip", "config", "list"]
        return subprocess.CompletedProcess(command, 0, LISTED)

    monkeypatch.setattr(module, "_configuration", CONFIGURATION)
    monkeypatch.setattr(subprocess, "run", run)
    indexes = ("https://a/simple", "https://b/simple", "https://u:p%40@c/simple")
    assert pip_settings() == PipSettings(indexes, (), ("a", "c:80"), "/certificates")
    monkeypatch.setenv("PIP_INDEX_URL", "https://d/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")  # which pip takes for none
    assert pip_settings().indexes == ("https://d/simple", *indexes[1:])

    def fail(command: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="index-url = https://u:secret@host")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(TrivdError, match="pip cannot read its configuration") as caught:
        pip_settings()
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("server")
def test_without_pip_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_configuration", CONFIGURATION)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert pip_settings() == PipSettings((PYPI,))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/a https://b/page")
    monkeypatch.setenv("PIP_PROXY", "proxy:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/bundle")
    assert pip_settings() == PipSettings((), ("/a", "https://b/page"), (), "/bundle", None, "proxy:3128")
