"""The README's first picture: held-out clips move on beside what each bundled model predicts for them.

    python -m benchmarks.scripts.moving_picture docs/images/models.gif [--data robot-pushing STORE]

The clips are the first held-out ones of each model's data, and the futures the first that are drawn: nothing is chosen
by eye. A GIF is smallest: 0.7 MB for three clips, 0.8 MB as lossless WebP, 1.0 MB as APNG.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console

from trivd.data.clips import open_clips
from trivd.models.pretrained import bundled_folders
from trivd.pictures.draw import FPS, PAPER, flow_to_color, rgb, save_gif
from trivd.pictures.side_by_side import side_by_side, tiled
from trivd.prediction.examples import Example, draw_example
from trivd.prediction.figure3 import FULL_COLOR
from trivd.prediction.predictor import Predictor
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import set_up_program
from trivd.runtime.pixels import Pixels

LETTERS = 9  # of a column's label
BETWEEN = 2  # px of a clip between clips
HELD = 8  # times that the last frame is shown
WIDEST = 1_000  # px, of a page on GitHub


def main(
    out: tyro.conf.Positional[Path],
    *,
    clips: int = 3,
    width: int = 128,
    data: dict[str, str] | None = None,
) -> None:
    """Draw the picture.

    Args:
        out: GIF file to write.
        clips: how many of each model.
        width: of a clip, in px.
        data: where the clips of a model lie, such as `robot-pushing stores/robot`; as the model names them if not
            given. A model whose data are not there is left out.

    Raises:
        TrivdError: no model's data are there.
    """
    set_up_program()
    console, parts = Console(), []
    for name in bundled_folders():
        predictor = Predictor.from_pretrained(name)
        try:
            examples = draw_examples(predictor, (data or {}).get(name, predictor.history["data"]), clips)
        except TrivdError as error:
            say(console, f"{name} is left out: {error}")
            continue
        parts.append(side_by_side(name, columns(examples), examples[0].given, width, LETTERS))
    if not parts:
        raise TrivdError("No bundled model's data are there; name some by --data.")
    save_gif(out, together(parts), FPS)
    say(console, f"Written: {out}, {out.stat().st_size / 1e6:.1f} MB")


def draw_examples(predictor: Predictor, data: str, count: int) -> list[Example]:
    """The first held-out clips with their futures.

    Raises:
        TrivdError: there are no such data.
    """
    config = predictor.trained_with
    held_out = open_clips(data, "validation", config.data, config.model)
    return [draw_example(predictor, held_out, number) for number in range(min(count, held_out.evaluation_clips))]


def columns(examples: Sequence[Example]) -> list[tuple[str, Pixels]]:
    """Truth, first sample and its motion field by label, the clips below each other; of units that warp."""
    given, flows = examples[0].given, [_flow(example) for example in examples]
    full = float(torch.cat([flow.norm(dim=1).flatten() for flow in flows]).quantile(FULL_COLOR))  # one scale for all
    nothing = np.full_like(rgb(examples[0].clip[:given]), PAPER)
    motions = [np.concatenate([nothing, flow_to_color(flow, full)]) for flow in flows]
    samples = [np.concatenate([example.clip[:given], example.futures.video[0]]) for example in examples]
    videos = (("truth", [example.clip for example in examples]), ("sample", samples), ("motion", motions))
    return [(label, _stacked(clips)) for label, clips in videos]


def together(parts: Sequence[Pixels]) -> Pixels:
    """Videos (T, H, W, 3) of one size beside each other, each held at its end until the longest is over."""
    frames = max(map(len, parts)) + HELD
    return tiled([np.concatenate([part, part[-1:].repeat(frames - len(part), axis=0)]) for part in parts], WIDEST)


def _flow(example: Example) -> torch.Tensor:
    """Forward flow (T, 2, H, W) of the first sample."""
    assert example.futures.motion is not None
    return -example.futures.motion[:, 0]


def _stacked(videos: Sequence[Pixels]) -> Pixels:
    """Videos (T, H, W, C) below each other."""
    gap = np.full((len(videos[0]), BETWEEN, videos[0].shape[2], 3), PAPER, np.uint8)
    return np.concatenate([part for video in videos for part in (rgb(video), gap)][:-1], axis=1)


if __name__ == "__main__":
    tyro.cli(main)
