"""Speed of I3D against the plain way, and against the I3D of a package for FVD; and what exactness costs.

    pip install --no-deps cd-fvd==0.1.1  # the peer, left out where it is not installed
    python -m benchmarks.scripts.i3d --clips 8 --repeats 3 [--device cuda] [--json result.json]

"plain" is one clip at a time, channels first, nothing folded or fused. "cd-fvd" is that package's network and resize on
the whole batch, with random weights, so that its speed alone compares. "bfloat16" is ours under autocast, which no
evaluation uses. On a CPU, seconds are those of the processor: other programs slow all ways, but not their ratios.
"""

import importlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import circumstances, finisher, take_turns
from reference.i3d import logits as plain_logits
from reference.i3d import random_variables
from trivd.evaluation.networks import i3d
from trivd.evaluation.networks.i3d import I3D, Identity
from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.evaluation.networks.inputs import SIDE
from trivd.runtime.hardware import choose_device, full_float32, set_up_program

PEER = "cd-fvd"
Way = Callable[[], Tensor]  # -> logits (B, 400)


@dataclass(frozen=True)
class Settings:
    """Options of the measurement."""

    clips: int = 8  # in the batch
    frames: int = 16  # per clip
    side: int = 64  # pixels of the frames before they are resized to 224
    channels: int = 3
    repeats: int = 3
    threads: int = 1
    device: str = "cpu"
    json: Path | None = None  # where the result is written


def main(settings: Settings) -> None:
    """Time all ways in turn, and print clips per second."""
    torch.set_num_threads(settings.threads)
    set_up_program()
    device = choose_device(settings.device, "--device")
    variables = random_variables(variable_shapes(), 0)
    network = I3D.from_tensorflow(variables, Identity("", "", "random weights")).to(device)
    shape = (settings.clips, settings.frames, settings.side, settings.side, settings.channels)
    video = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)

    def plain() -> Tensor:
        with full_float32(device):
            return plain_logits(video, variables)

    def rounded() -> Tensor:
        with mock.patch.object(i3d, "full_float32", lambda device: torch.autocast(device.type, torch.bfloat16)):
            return network(video).logits.float()

    ways: dict[str, Way] = {"ours": lambda: network(video).logits, "plain": plain, "bfloat16": rounded}
    if (peer := peers_way(video)) is not None:
        ways[PEER] = peer
    with torch.no_grad():
        found = {name: way() for name, way in ways.items()}
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        seconds = take_turns(ways, settings.repeats, finish=finisher(device), clock=clock)
    speed = {name: settings.clips / median for name, median in seconds.items()}
    scale = found["plain"].abs().max()
    differences = {name: float((found[name] - found["plain"]).abs().max() / scale) for name in ("ours", "bfloat16")}
    result = circumstances(device) | {
        "settings": asdict(settings) | {"json": None},
        "clips_per_second": speed,
        "ratios": {name: speed["ours"] / speed[name] for name in speed if name != "ours"},
        "largest_relative_difference": differences,
    }
    for name, clips in speed.items():
        print(f"{name:>8}: {clips:.2f} clips/s, ours is {speed['ours'] / clips:.2f} times as fast")
    print("logits differ from plain: " + ", ".join(f"{name} {value:.1e}" for name, value in differences.items()))
    print(result["hardware"])
    if settings.json is not None:
        settings.json.write_text(json.dumps(result, indent=2) + "\n")


def peers_way(video: Tensor) -> Way | None:
    """The network of `cd-fvd`, and the resize in front of it; None if the package is not installed."""
    if find_spec("cdfvd") is None:
        return None
    module = importlib.import_module("cdfvd.third_party.i3d.pytorch_i3d")
    network = module.InceptionI3d(400, in_channels=3).to(video.device).eval()

    def way() -> Tensor:
        planes = video.float().flatten(0, 1).permute(0, 3, 1, 2).contiguous()
        resized = F.interpolate(planes, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        clips = resized.unflatten(0, video.shape[:2]).transpose(1, 2).contiguous()  # (B, C, T, H, W)
        logits: Tensor = network(2 * clips / 255 - 1)
        return logits

    return way


if __name__ == "__main__":
    main(tyro.cli(Settings))
