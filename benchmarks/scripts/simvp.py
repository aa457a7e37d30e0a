"""A deterministic peer: OpenSTL's SimVP, trained on the clips of a data set for so many CPU seconds.

    git clone https://github.com/chengtan9907/OpenSTL
    pip install timm fvcore torchvision
    PYTHONPATH=OpenSTL python -m benchmarks.scripts.simvp moving-digits --seconds 900 --out OUT
    trivd evaluate --predictions OUT/predictions --truth OUT/truth --conditioning-frames 3

Its recipe is OpenSTL's for Moving MNIST: gSTA, mean squared error, Adam, one cycle of the rate; predictions beyond as
many frames as are given continue its own. Clips come in the order in which `trivd train` takes them.
"""

import json as json_format
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measuring import circumstances
from trivd.config import Config
from trivd.data.clips import ClipDataset, open_clips
from trivd.data.loader import TrainingStream
from trivd.presets import preset
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder, write_atomically

PEAK_RATE = 1e-3
WARM_UP = 0.3  # share of the training in which the rate rises, from a 25th; it ends at a 10,000th of that
SAID_EVERY = 60  # CPU seconds


def main(
    data: Annotated[str, tyro.conf.Positional],
    *,
    out: Path,
    seconds: float = 900,
    preset_name: Annotated[str, tyro.conf.arg(name="preset")] = "quickstart",
    batch_size: int = 16,
    hidden: tuple[int, int] = (16, 256),
    blocks: int = 4,
    clips: int = 256,
    seed: int = 0,
) -> None:
    """Train SimVP, and write its predictions of held-out clips beside these, as arrays.

    Args:
        data: as for `trivd train`.
        out: a new or empty folder, with `predictions`, `truth` and `simvp.json` afterwards.
        seconds: of CPU time, over all threads, that are spent in training steps.
        preset_name: whose clips are taken.
        batch_size: clips of a step.
        hidden: channels of its encoder, and of what predicts in between.
        blocks: of the latter.
        clips: number of held-out clips.
        seed: of weights and clips.

    Raises:
        TrivdError: `out` holds files, whose predictions would be scored with these.
    """
    check_output_folder(out, "name another --out", empty=True)
    config = preset(preset_name)
    torch.manual_seed(seed)
    model = _simvp(config, hidden, blocks)
    said = Console(stderr=True)
    steps = _train(model, config, data, seconds=seconds, batch_size=batch_size, seed=seed, console=said)
    held_out = open_clips(data, "validation", config.data, config.model)
    psnr = _write_predictions(model, config, held_out, min(clips, held_out.evaluation_clips), out)
    result = {
        "model": "SimVP, gSTA",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": seconds,
        "steps": steps,
        "clips": steps * batch_size,
        "psnr": psnr,
        "circumstances": circumstances(torch.device("cpu")),
    }
    write_atomically(out / "simvp.json", json_format.dumps(result, indent=2).encode())
    say(said, f"{steps} steps of {batch_size} clips; PSNR {psnr:.2f} dB; written: {out}")


def _simvp(config: Config, hidden: tuple[int, int], blocks: int) -> nn.Module:
    try:
        from openstl.models.simvp_model import SimVP_Model
    except ImportError as error:
        raise TrivdError(f"OpenSTL cannot be imported ({error}); see the head of {Path(__file__).name}.") from error
    model, size = config.model, config.model.resolution
    shape = (model.conditioning_frames, model.image_channels, size, size)
    built: nn.Module = SimVP_Model(shape, hid_S=hidden[0], hid_T=hidden[1], N_S=4, N_T=blocks)
    return built


def _train(
    model: nn.Module,
    config: Config,
    data: str,
    *,
    seconds: float,
    batch_size: int,
    seed: int,
    console: Console,
) -> int:
    """Train for so many CPU seconds; the number of steps."""
    dataset = open_clips(data, "train", config.data, config.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE)
    given, spent, steps, said = config.model.conditioning_frames, 0.0, 0, 0.0
    # A schedule in thousandths of the time that is spent, as the number of steps is not known.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=1_001, pct_start=WARM_UP)
    for batch in TrainingStream(dataset, batch_size, seed, 0, 0, rank=0, world=1, warn=lambda text: say(console, text)):
        if spent >= seconds:
            break
        begun = time.process_time()
        while schedule.last_epoch < int(1_000 * spent / seconds):
            schedule.step()
        video = _to_float(batch.video)
        loss = F.mse_loss(_predict(model, video[:, :given], config.model.predicted_frames), video[:, given:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        spent += time.process_time() - begun
        if spent - said >= SAID_EVERY:
            said = spent
            say(console, f"step {steps}: {spent:.0f} of {seconds:.0f} CPU seconds, error {loss.item():.5f}")
    return steps


def _to_float(video: Tensor) -> Tensor:
    """(B, T, H, W, C) uint8 -> (B, T, C, H, W) in [0, 1], as OpenSTL's data sets give it."""
    return video.permute(0, 1, 4, 2, 3).float() / 255


def _predict(model: nn.Module, given: Tensor, frames: int) -> Tensor:
    """The next frames (B, frames, C, H, W): the model gives as many as it reads, and reads its own after that."""
    predicted: list[Tensor] = []
    while sum(part.shape[1] for part in predicted) < frames:
        given = model(given.contiguous())
        predicted.append(given)
    return torch.cat(predicted, dim=1)[:, :frames]


@torch.no_grad()
def _write_predictions(model: nn.Module, config: Config, dataset: ClipDataset, clips: int, out: Path) -> float:
    """Write held-out clips and what the model predicts of them; the mean PSNR of 8-bit frames in dB."""
    model.eval()
    given, scores = config.model.conditioning_frames, []
    for folder in ("predictions", "truth"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        clip = dataset.evaluation_clip(number).video
        frames = _predict(model, _to_float(torch.from_numpy(clip)[None])[:, :given], config.model.predicted_frames)
        pixels = (frames[0].clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        errors = (pixels.astype(np.float64) - clip[given:]).reshape(len(pixels), -1)
        scores.append(10 * np.log10(255**2 / np.square(errors).mean(axis=1)).mean())
        np.save(out / "predictions" / f"{number:05}.npy", pixels)
        np.save(out / "truth" / f"{number:05}.npy", clip)
    return float(np.mean(scores))


if __name__ == "__main__":
    tyro.cli(main)
