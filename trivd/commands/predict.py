"""`trivd predict`: futures of a clip, as files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from trivd.commands.status import DONE
from trivd.config import DEFAULT_LIMITS, MotionLevels, VideoLimits
from trivd.prediction.futures import write_futures
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.console import say
from trivd.runtime.files import check_output_folder


@dataclass(frozen=True)
class Predict:
    """Draw futures of a clip: MP4 and GIF of each, a PNG grid, and the motion the model saw."""

    clip: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CLIP")]
    """A video, a folder of numbered images, or a .npy/.npz array (T, H, W, C) of uint8."""
    model: str
    """A model's or run's folder, a bundled model (`trivd models`), or a name on the Hugging Face hub."""
    samples: int = 4
    """How many futures."""
    truncation: float | None = None
    """Draw z's entries beyond it again: 0.8 is moderate, 0 gives the one future of z = 0; the model's standing
    statistics stay as saved (`trivd evaluate --save-model` writes others)."""
    seed: int = 0
    """Of z."""
    frames: int | None = None
    """Frames of each future; beyond the model's own number it continues from its own frames."""
    start: int | None = None
    """Number of the first given frame; the rest of the clip is then shown as the truth. Default: the clip's end."""
    label: int = 0
    """Class, for models that were trained with classes."""
    motion_levels: MotionLevels | None = None
    """Levels that the motion field combines: all, how many of the finest, or resolutions. Default: the model's own."""
    out: Path | None = None
    """Folder for the files; predictions/CLIP if not given. It must not hold files yet."""
    npz: bool = False
    """Also write the frames as futures.npz, uint8 (samples, T, H, W, C)."""
    limits: VideoLimits = DEFAULT_LIMITS

    def run(self, console: Console) -> int:
        out = self.out or Path("predictions") / self.clip.stem
        check_output_folder(out, empty=True)
        predictor = Predictor.from_pretrained(self.model)
        sampling = Sampling(self.samples, self.truncation, self.seed, self.frames, self.label)
        for line in write_futures(
            predictor,
            self.clip,
            out,
            sampling,
            start=self.start,
            motion=self.motion_levels,
            npz=self.npz,
            limits=self.limits,
        ):
            say(console, line)
        return DONE
