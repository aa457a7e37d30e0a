"""Every score against its reference: I3D, resize, Fréchet distance, inception score, SSIM and PSNR.

    python -m benchmarks.scripts.parity --reference ../shared/i3d [--json OUT] [--device cuda]

Needs the `dev` extra. The exit status is 1 if a difference exceeds its tolerance, and 2 without the reference values.
"""

import importlib.util
import json as json_format
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import tyro
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.image.inception import InceptionScore

from benchmarks.measuring import circumstances
from trivd.evaluation.metrics.frame_scores import psnr, ssim
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.metrics.inception import inception_score
from trivd.evaluation.networks.i3d import I3D, Identity
from trivd.evaluation.networks.inputs import SIDE
from trivd.evaluation.networks.resize import resize_bilinear
from trivd.runtime.files import write_atomically

REFERENCE_FILES = ("fake_weights.py", "variables.json", "logits.npz", "resize.npz", "frechet.npz")
LOGITS = 2e-6  # of the float32 network
SINGLE = 1e-5  # sums of many float32 products, taken in another order
DOUBLE = 1e-9  # float64 throughout


@dataclass(frozen=True)
class Row:
    """One comparison; for arrays, the entries that differ most."""

    what: str
    ours: float
    reference: float
    relative_difference: float  # the largest difference, relative to the reference's largest magnitude
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.relative_difference <= self.tolerance  # False for NaN


def compare(what: str, ours: ArrayLike, reference: ArrayLike, tolerance: float) -> Row:
    """The row of two arrays of the same shape."""
    a, b = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{what}: our shape is {a.shape}, the reference's {b.shape}.")
    difference = np.abs(a - b)
    worst = np.unravel_index(difference.argmax(), a.shape)
    relative = float(difference[worst] / np.abs(b).max())
    return Row(what, float(a[worst]), float(b[worst]), relative, tolerance)


def i3d_rows(reference: Path, device: torch.device) -> Iterator[Row]:
    """Clips of the reference, through the network with the reference's fake weights."""
    fake = _module(reference / "fake_weights.py")
    network = I3D.from_tensorflow(fake.fake_variables(fake.spec()), Identity("FVD (fake)", "IS (fake)", "I3D, fake"))
    network.to(device)
    logits = np.load(reference / "logits.npz", allow_pickle=False)
    for name in ("a16", "c9"):
        video = torch.from_numpy(fake.fake_video(name, *logits[f"{name}/shape"]))
        ours = network(video.to(device)).logits.cpu()
        yield compare(f"I3D logits {name}, {_size(video.shape)}", ours, logits[f"{name}/logits"], LOGITS)


def resize_row(reference: Path, device: torch.device) -> Row:
    """TensorFlow 1's bilinear resize."""
    image = np.random.RandomState(68).randint(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    ours = resize_bilinear(torch.from_numpy(image)[None].to(device), SIDE, SIDE)[0].cpu()
    expected = np.load(reference / "resize.npz", allow_pickle=False)["up64"]
    return compare(f"resize to {SIDE}, {_size(image.shape)}", ours, expected, 1e-6)


def frechet_row(reference: Path) -> Row:
    """Stored features, and the distance that the reference implementation gave for them."""
    values = np.load(reference / "frechet.npz", allow_pickle=False)
    ours = frechet_distance(values["x"], values["y"])
    return compare(f"Fréchet distance, {_size(values['x'].shape)}", ours, values["distance"], DOUBLE)


def inception_row() -> Row:
    """Random logits, with torchmetrics as the reference."""
    logits = 3 * torch.randn(2048, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(action="ignore"):  # it keeps all features, and one split has no deviation
        metric = InceptionScore(feature=torch.nn.Identity(), splits=1)
        metric.update(logits)
        expected = float(metric.compute()[0])
    return compare(f"inception score, {_size(logits.shape)}", inception_score(logits, 1)[0], expected, DOUBLE)


def frame_rows() -> Iterator[Row]:
    """Noisy random frames, with scikit-image in float64 as the reference."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 4, 3, 64, 64, generator=rng) * 2 - 1
    prediction = (truth + 0.3 * torch.randn(truth.shape, generator=rng)).clamp(-1, 1)
    images = [(video.flatten(0, 1).double().numpy() + 1) / 2 for video in (prediction, truth)]  # (B*T, C, H, W)
    pairs = list(zip(*images, strict=True))
    similarities = [
        structural_similarity(a, b, channel_axis=0, data_range=1, gaussian_weights=True, use_sample_covariance=False)
        for a, b in pairs
    ]
    ratios = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in pairs]
    yield compare(f"SSIM, {_size(truth.shape)}", ssim(prediction, truth).flatten(), similarities, SINGLE)
    yield compare(f"PSNR, {_size(truth.shape)}", psnr(prediction, truth).flatten(), ratios, SINGLE)


def main(reference: Path, json: Path | None = None, device: str = "cpu") -> int:
    """Check every score against its reference.

    Args:
        reference: folder of the reference values of I3D, the resize and the Fréchet distance.
        json: file for the table with versions, hardware, date and command; none if not given.
        device: of I3D and the resize.
    """
    console = Console()
    missing = [name for name in REFERENCE_FILES if not (reference / name).is_file()]
    if missing:
        console.print(
            f"{reference} has no {', '.join(missing)}; name the folder of the reference values.", soft_wrap=True
        )
        return 2
    place = torch.device(device)
    rows = [*i3d_rows(reference, place), resize_row(reference, place), frechet_row(reference), inception_row()]
    rows += frame_rows()
    console.print(table(rows))
    if json is not None:
        results = [asdict(row) | {"passed": row.passed} for row in rows]
        write_atomically(json, json_format.dumps(circumstances(place) | {"rows": results}, indent=2).encode())
    return 0 if all(row.passed for row in rows) else 1


def table(rows: list[Row]) -> Table:
    """The rows as a table for the console."""
    printed = Table("what", "ours", "reference", "difference", "tolerance", "", caption="Differences are relative.")
    for row in rows:
        printed.add_row(
            row.what,
            f"{row.ours:.9g}",
            f"{row.reference:.9g}",
            f"{row.relative_difference:.1e}",
            f"{row.tolerance:.0e}",
            "pass" if row.passed else "FAIL",
        )
    return printed


def _module(path: Path) -> ModuleType:
    """A module that lies beside the reference values."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
