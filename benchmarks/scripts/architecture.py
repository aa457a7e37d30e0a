"""Parameters and FLOPs of every network, and Table 1's times explained by them, for docs/choices.md.

    python -m benchmarks.scripts.architecture [--document docs/choices.md]

FLOPs are those of a forward pass on one video in the plain form of `reference`, two for each multiplication and
addition. Table 1's times are fitted by least squares as

    step = generator + sum over its discriminators (overhead + time per FLOP x FLOPs)

with three constants for all nine rows. Discriminators whose 3D blocks do or do not halve time have other FLOPs, so that
the better fit tells which of them the paper has measured.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.suites.step import PAPER_MS
from reference.discriminators import DECOMPOSITIONS, Discriminators, draw_view
from reference.generator import Generator
from trivd.config import Config, Decomposition, DiscriminatorConfig, ModelConfig
from trivd.pictures.markdown import fill, markdown_table, read_document
from trivd.runtime.files import write_atomically

CHANNELS = (48, 120)  # of the paper's models
FLATTENED = (0.5, 4.0)  # f's hidden linear layer half as large as its flattened input
SEES = {  # names of Table 1's columns
    "frames": "8 frames",
    "small_frames": "8 downsampled frames",
    "clip": "clip",
    "small_clip": "downsampled clip",
    "crop": "crop",
}


@dataclass(frozen=True)
class Costs:
    """Costs of a network."""

    parameters: int
    flops: int  # of a forward pass on one video


def costs(network: nn.Module, forward: Callable[[], Tensor]) -> Costs:
    """The network's parameters, and the FLOPs of `forward`."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return Costs(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops())


def generator_costs(model: ModelConfig) -> dict[str, Costs]:
    """Costs of E, and of G without E."""
    with torch.device("meta"):
        generator = Generator(model)
        frames = torch.empty(1, model.conditioning_frames, model.image_channels, model.resolution, model.resolution)
        states = generator.encoder(frames)
        encoder = costs(generator.encoder, lambda: generator.encoder(frames)[model.recurrent_resolutions[0]])
        both = costs(generator, lambda: generator.decode(states, torch.empty(1, model.latent_dim)))
    return {"E": encoder, "G": replace(both, parameters=both.parameters - encoder.parameters)}


def discriminator_costs(model: ModelConfig, decomposition: Decomposition, pool_time: bool) -> dict[str, Costs]:
    """Costs of each discriminator of a decomposition, by what it sees."""
    config = Config(model, DiscriminatorConfig(decomposition=decomposition, temporal_pooling=pool_time))
    size = (1, model.frames, model.image_channels, model.resolution, model.resolution)
    video, labels = torch.empty(size, device="meta"), torch.zeros(1, dtype=torch.int64, device="meta")
    with torch.device("meta"):
        discriminators = Discriminators(config)

    def judge(view: str) -> Callable[[], Tensor]:
        seen = draw_view(view, video, config, torch.Generator())
        return lambda: discriminators[view](seen, labels).video

    return {view: costs(network, judge(view)) for view, network in discriminators.items()}


@dataclass(frozen=True)
class Fit:
    """Table 1's times as three constants and the FLOPs of each row's discriminators."""

    generator: float  # ms
    overhead: float  # ms of a discriminator
    per_flop: float  # ms of 1e9 FLOPs
    times: Mapping[Decomposition, float]  # ms

    @property
    def error(self) -> float:
        """Root mean square of the differences to the paper's times, in ms."""
        return math.sqrt(math.fsum((time - PAPER_MS[name]) ** 2 for name, time in self.times.items()) / len(self.times))


def fit_table1(flops: Mapping[Decomposition, Sequence[int]]) -> Fit:
    """The least-squares fit to Table 1's column MS, from the FLOPs of each row's discriminators."""
    rows = [[1.0, float(len(each)), sum(each) / 1e9] for each in flops.values()]
    matrix = torch.tensor(rows, dtype=torch.float64)
    times = torch.tensor([PAPER_MS[name] for name in flops], dtype=torch.float64)
    constants = torch.linalg.lstsq(matrix, times.unsqueeze(1), driver="gelsd").solution
    fitted = (matrix @ constants).flatten().tolist()
    generator, overhead, per_flop = constants.flatten().tolist()
    return Fit(generator, overhead, per_flop, dict(zip(flops, fitted, strict=True)))


def sizes_table() -> str:
    """Parameters and FLOPs of each network, before and after the two choices."""
    header = ["network", *(f"ch {ch}: {what}" for ch in CHANNELS for what in ("parameters [M]", "GFLOPs"))]
    columns: list[dict[str, Costs]] = []
    for ch in CHANNELS:
        base = ModelConfig(generator_channels=ch, discriminator_channels=ch)
        column = generator_costs(base)
        column["G, half of the flattened units"] = generator_costs(replace(base, warp_hidden=FLATTENED))["G"]
        column["G, unit conv_gru"] = generator_costs(replace(base, unit="conv_gru"))["G"]
        for decomposition in ("mocogan_k8", "stronger"):
            for view, own in discriminator_costs(base, decomposition, True).items():
                column[f"D of {SEES[view]}"] = own
            for view, own in discriminator_costs(base, decomposition, False).items():
                if "frames" not in view:
                    column[f"D of {SEES[view]}, time not halved"] = own
        columns.append(column)
    rows = []
    for name in sorted(columns[0], key=lambda name: (name[0] == "D", name)):
        figures = [(column[name].parameters / 1e6, column[name].flops / 1e9) for column in columns]
        rows.append([name, *(f"{figure:.1f}" for pair in figures for figure in pair)])
    return markdown_table(header, rows)


def times_table() -> str:
    """Table 1's times beside both fits."""
    fits = {}
    for pool_time in (True, False):
        flops = {
            name: [own.flops for own in discriminator_costs(ModelConfig(), name, pool_time).values()]
            for name in get_args(Decomposition)
        }
        fits[pool_time] = fit_table1(flops)
    halved, kept = fits[True], fits[False]
    rows = [
        [name, f"{PAPER_MS[name]:.0f}", f"{halved.times[name]:.0f}", f"{kept.times[name]:.0f}"]
        for name in DECOMPOSITIONS
    ]
    rows += [
        [name, "", f"{getattr(halved, field):.1f}", f"{getattr(kept, field):.1f}"]
        for name, field in (
            ("generator [ms]", "generator"),
            ("overhead of a discriminator [ms]", "overhead"),
            ("time of a GFLOP [ms]", "per_flop"),
            ("root mean square error [ms]", "error"),
        )
    ]
    return markdown_table(["", "Table 1 [ms]", "fit, time halved", "fit, time not halved"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, help="Markdown file whose tables are filled; printed if not given")
    document = parser.parse_args().document
    tables = {"architecture sizes": sizes_table(), "architecture times": times_table()}
    if document is None:
        print("\n\n".join(tables.values()))
        return
    text = read_document(document)
    for name, table in tables.items():
        text = fill(text, name, table, document)
    write_atomically(document, text.encode())


if __name__ == "__main__":
    main()
