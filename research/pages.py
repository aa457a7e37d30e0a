"""Markdown pages whose tables are filled between markers, wherever among them the markers are."""

from pathlib import Path

from trivd.pictures.markdown import BEGIN, fill, read_document
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_file, write_atomically


class Pages:
    """The texts of a Markdown file, or of all those in a folder.

    Args:
        place: the file or folder.

    Raises:
        TrivdError: a page cannot be read or written, or the folder has none.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        files = sorted(place.rglob("*.md")) if place.is_dir() else [place]
        if not files:
            raise TrivdError(f"{place} has no Markdown page; choose another --document.")
        for file in files:
            check_output_file(file, "choose another --document")
        self._texts = {file: read_document(file) for file in files}
        self._filled: list[Path] = []

    def page(self, name: str) -> Path:
        """The page with the markers of that name.

        Raises:
            TrivdError: no page has them, or several do.
        """
        begin = BEGIN.format(name)
        found = [file for file, text in self._texts.items() if f"{begin}\n" in text]
        if len(found) > 1:
            raise TrivdError(f"{begin} stands in {' and '.join(map(str, found))}; remove all but one.")
        if not found:
            fill("", name, "", self.place)  # raises the error that says which markers are missing
        return found[0]

    def fill(self, name: str, block: str) -> None:
        """Put `block` between the markers of that name.

        Raises:
            TrivdError: the markers are incomplete, or stand in no page or in several.
        """
        file = self.page(name)
        self._texts[file] = fill(self._texts[file], name, block, file)
        self._filled.append(file)

    def write(self) -> list[Path]:
        """Write the pages that were filled, and return them."""
        written = sorted(set(self._filled))
        for file in written:
            write_atomically(file, self._texts[file].encode())
        return written
