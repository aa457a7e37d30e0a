"""Lines show names as they are: no markup is read from them, nothing in them reaches the terminal's control."""

import io
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trivd.commands.main import main
from trivd.commands.presets import Presets
from trivd.presets import PRESETS
from trivd.runtime.console import say, show_table, take_any_text


def said(text: str, style: str = "") -> str:
    file = io.StringIO()
    say(Console(file=file, width=20), text, style)
    return file.getvalue()


@pytest.mark.parametrize(
    "name", ["clip [dQw4w9WgXcQ].mp4", "a[/b].mp4", "[red]stop[/red]", "[link=https://a.b]c[/link]", ":x:"]
)
def test_names_are_shown_as_they_are(name: str) -> None:
    assert said(f"Another clip is taken: {name}", "yellow") == f"Another clip is taken: {name}\n"


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_control_character_is_written(text: str) -> None:
    written = said(text)
    assert not [c for c in written if c != "\n" and c != "\t" and (ord(c) < 32 or 127 <= ord(c) < 160)]


def test_colour_is_that_of_the_style_alone() -> None:
    file = io.StringIO()
    say(Console(file=file, force_terminal=True, color_system="standard", width=20), "[red]\x1b[31mx 12", "yellow")
    assert file.getvalue() == "\x1b[33m[red]\N{REPLACEMENT CHARACTER}[31mx 12\x1b[0m\n"


def test_a_damaged_video_of_such_a_name_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos" / "a[").mkdir(parents=True)
    (tmp_path / "videos" / "a[" / "b].mp4").write_bytes(b"no video")
    for number in range(3):
        np.save(tmp_path / "videos" / "a[" / f"{number}.npy", np.zeros((4, 32, 32, 3), np.uint8))
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(tmp_path / "videos"), str(tmp_path / "store"), "--resolution", "32", "--workers", "0"])
    assert ended.value.code == 0
    assert "a[/b].mp4" in capsys.readouterr().out


def shown(width: int, encoding: str = "utf-8", title: str = "") -> str:
    """A table of names and figures, as bytes of an encoding would show it."""
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    rows = [("table1-cropped_downsampled", "12.345 ± 0.678", "two [words]"), ("short", "0.5", "Fréchet \udcff")]
    show_table(Console(file=file, width=width), ("name", "figure", "what for"), rows, title)
    file.seek(0)
    return file.read()


@pytest.mark.parametrize("width", [1, 10, 20, 30, 40, 44, 50, 60, 79, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_word_of_a_table_is_cut(width: int, encoding: str) -> None:
    text = shown(width, encoding, title="A title")
    for word in ("table1-cropped_downsampled", "12.345", "0.678", "short", "0.5", "two", "[words]", "name", "title"):
        assert word in text, word
    assert "…" not in text
    if "figure:" not in text:  # not so narrow that each row becomes a few lines
        assert max(map(len, text.splitlines())) <= width
        assert width >= 44


def test_a_table_that_fits_has_a_line_for_each_row() -> None:
    lines = [line for line in shown(200).splitlines() if "table1" in line]
    assert len(lines) == 1
    assert re.search("table1-cropped_downsampled .* 12.345 ± 0.678 .* two", lines[0])


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "12 +- 3 Frechet ?"), ("latin-1", "12 ± 3 Fréchet ?"), ("utf-8", "12 ± 3 Fréchet ?")],
)
def test_what_an_encoding_has_not_is_spelled_otherwise(encoding: str, expected: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    say(Console(file=file, width=200), "12 ± 3 Fréchet \udcff")
    file.seek(0)
    assert file.read() == f"{expected}\n"


def test_a_stream_takes_any_text() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    take_any_text(file)
    file.write("± é 漢 \udcff")
    file.seek(0)
    assert file.read() == "+- e ? ?"
    take_any_text(io.StringIO())  # has no encoding: nothing to be done


@pytest.mark.parametrize("columns", ["10", "30", "40", "80"])
def test_presets_can_be_typed_as_they_are_listed(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        main(["presets"])
    words = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    assert set(PRESETS) <= words


def test_what_the_library_logs_is_said_by_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("trivd.models")
    monkeypatch.setattr(Presets, "run", lambda self, console: logger.info("[Compiling]"))
    with pytest.raises(SystemExit):
        main(["presets"])
    assert capsys.readouterr().out == "[Compiling]\n"
