"""Speed of I3D against the plain way: one clip at a time, channels first, nothing folded or fused.

python -m benchmarks.scripts.i3d --clips 4 --repeats 3 [--json result.json]
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from benchmarks.measuring import circumstances, take_turns
from reference.i3d import logits as plain_logits
from reference.i3d import random_variables
from trivd.evaluation.networks.i3d import I3D, Identity
from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.runtime.hardware import set_up_program


@dataclass(frozen=True)
class Settings:
    """Options of the measurement."""

    clips: int = 4  # in the batch
    frames: int = 16  # per clip
    side: int = 64  # pixels of the frames before they are resized to 224
    channels: int = 3
    repeats: int = 3
    threads: int = 1
    json: Path | None = None  # where the result is written


def main(settings: Settings) -> None:
    """Time both ways in turn, and print clips per second."""
    torch.set_num_threads(settings.threads)
    set_up_program()
    variables = random_variables(variable_shapes(), 0)
    network = I3D.from_tensorflow(variables, Identity("", "", "random weights"))
    shape = (settings.clips, settings.frames, settings.side, settings.side, settings.channels)
    video = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "plain": lambda: plain_logits(video, variables),
        "ours": lambda: network(video).logits,
    }
    with torch.no_grad():
        ours, plain = ways["ours"](), ways["plain"]()
        seconds = take_turns(ways, settings.repeats)
    speed = {name: settings.clips / median for name, median in seconds.items()}
    result = circumstances(torch.device("cpu")) | {
        "settings": asdict(settings) | {"json": None},
        "clips_per_second": speed,
        "ratio": speed["ours"] / speed["plain"],
        "largest_relative_difference": float((ours - plain).abs().max() / plain.abs().max()),
    }
    for name, clips in speed.items():
        print(f"{name:>5}: {clips:.2f} clips/s")
    print(f"ratio: {result['ratio']:.2f}; logits differ by {result['largest_relative_difference']:.1e}")
    print(result["hardware"])
    if settings.json is not None:
        settings.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
