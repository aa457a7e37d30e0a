"""The page holds everything itself, is well-formed, and shows text as text."""

import base64
from html.parser import HTMLParser
from pathlib import Path

from trivd.pictures.html import Page, Picture, Section, Table, write_page
from trivd.pictures.plots import frame_curves, to_svg

VOID = {"meta", "img", "br", "hr", "link", "input"}
PICTURES = (
    Picture("first <script>alert('x')</script>", b"\x89PNG pixels", "image/png"),
    Picture("second", b"GIF89a", "image/gif"),
    Picture("third", b"mp4", "video/mp4"),
    Picture("fourth", to_svg(frame_curves({"SSIM": {"a": [1.0]}})).encode(), "image/svg+xml"),
)
PAGE = Page(
    title="Moving digits & more",
    summary=("Trained for 10 steps.", "It took < 1 minute."),
    sections=(
        Section("Samples", "Rows are futures.", PICTURES),
        Section("Scores", "", (Table(("", "SSIM"), (("copy", "0.5"),), note="256 clips"), PICTURES[1])),
    ),
)


class Page(HTMLParser):
    """Collects sources, links and text; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "poster", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(path: Path) -> str:
    write_page(path, PAGE)
    return path.read_text(encoding="utf-8")


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    html = written(tmp_path / "new" / "index.html")
    page = Page(html)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "url(" not in html
    assert "@import" not in html
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)


def test_the_page_holds_what_it_was_given(tmp_path: Path) -> None:
    page = Page(written(tmp_path / "index.html"))
    for text in ("Moving digits & more", "It took < 1 minute.", "Rows are futures.", "256 clips", "0.5", "fourth"):
        assert text in page.text
    sources = [address for address in page.addresses if address.startswith("data:")]
    assert [base64.b64decode(source.partition(",")[2]) for source in sources] == [
        picture.data for picture in (*PICTURES, PICTURES[1])
    ]
    assert (page.tags.count("img"), page.tags.count("video"), page.tags.count("table")) == (4, 1, 1)


def test_captions_are_text(tmp_path: Path) -> None:
    html = written(tmp_path / "index.html")
    assert "<script" not in html
    assert "first <script>alert('x')</script>" in Page(html).text


def test_an_old_page_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text("old")
    assert "old" not in Page(written(path)).text
    assert list(tmp_path.iterdir()) == [path]
