"""Logs of a training: a progress bar or plain lines, JSON lines, and TensorBoard."""

import json
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter

from trivd.runtime.console import say
from trivd.training.budget import Budget
from trivd.training.collapse import CollapseFlag
from trivd.training.run import Run

SHOWN_WAIT = 0.01  # share of the time spent waiting for clips, from which it is shown


class NoLog:
    """A log that keeps nothing, for all processes but rank 0."""

    def __enter__(self) -> "NoLog":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, step: int) -> None:
        pass

    def losses(self, *_: object) -> None:
        pass

    def scores(self, *_: object) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


class TrainingLog:
    """The log of rank 0, a context manager around the training loop.

    Args:
        run: where the files go; they are appended to.
        console: on a terminal it shows a bar, else a line per logged step.
        start: steps already made.
        steps: of the whole run.
        budget: in whose time the bar moves, if it is limited.
    """

    def __init__(self, run: Run, console: Console, start: int, steps: int, budget: Budget) -> None:
        self.console = console
        self._file = run.log_file.open("a", encoding="utf-8")
        if run.log_file.stat().st_size and not run.log_file.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # after half a line, from a crash or a full disk
        self._board = SummaryWriter(str(run.tensorboard), purge_step=start + 1)
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn() if budget.seconds is None else TextColumn("{task.fields[minutes]} min"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._budget = budget
        self._task = self._progress.add_task("train", total=budget.seconds or steps, minutes="")
        self.advance(start)
        self._losses = Text()  # below the bar: a narrow terminal has no room for both in a line
        self._live = Live(Group(self._progress, self._losses), console=console)
        self._steps = steps
        self._flag = CollapseFlag()
        for row in run.log_rows():
            if row["step"] <= start:
                self._flag.update(row)

    def __enter__(self) -> "TrainingLog":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()
        self._file.close()
        self._board.close()

    def advance(self, step: int) -> None:
        """Move the bar."""
        spent, seconds = self._budget.spent, self._budget.seconds
        if seconds is None:
            self._progress.update(self._task, completed=step)
        else:
            minutes = f"{spent / 60:.1f}/{seconds / 60:g}"
            self._progress.update(self._task, completed=min(spent, seconds), minutes=minutes)

    def losses(
        self, step: int, values: dict[str, float], images_per_second: float, wait_share: float, seconds_left: float
    ) -> None:
        """Losses of a step, how fast it goes, and the share of the time that is spent waiting for clips."""
        self._write(step, values | {"speed/images_per_second": images_per_second, "speed/wait_share": wait_share})
        views = [name.rpartition("/")[2] for name in values if name.startswith("loss/discriminator/")]
        parts = [_discriminator(view, values) for view in views]
        if "loss/reconstruction" in values:
            parts.append(f"L1 {values['loss/reconstruction']:.3f}")
        parts.append(f"{images_per_second:.0f} images/s")
        if wait_share > SHOWN_WAIT:
            parts.append(f"wait {wait_share:.0%}")
        if self._flag.collapse is not None:
            parts.append(f"collapsed at step {self._flag.collapse.step}")
        text = " | ".join(parts)
        self._losses.plain = text
        if not self.console.is_terminal:
            left = f"{seconds_left / 60:.0f} min left"
            of = f"/{self._steps}" if self._budget.seconds is None else ""
            say(self.console, f"step {step}{of} | {text} | {left}")

    def scores(self, step: int, values: dict[str, float], distance_name: str) -> None:
        """Scores of an evaluation during training, and what their "distance" is called, if they have one."""
        self._write(step, values)
        for split in ("train", "validation"):
            if f"score/{split}/ssim" in values:
                distance, copied = f"score/{split}/distance", f"score/{split}/copy_distance"
                more = f", {distance_name} {values[distance]:.2f} (copy {values[copied]:.2f})" if distance_name else ""
                say(
                    self.console,
                    f"step {step}: {split} clips, one sample each: "
                    f"PSNR {values[f'score/{split}/psnr']:.2f} dB (copy {values[f'score/{split}/copy_psnr']:.2f}), "
                    f"SSIM {values[f'score/{split}/ssim']:.3f} (copy {values[f'score/{split}/copy_ssim']:.3f}){more}",
                )

    def warn(self, text: str) -> None:
        """A line above the bar."""
        say(self.console, text, "yellow")

    def _write(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        before = self._flag.collapse
        self._flag.update({"step": step} | values)
        if self._flag.collapse is not None and before is None:
            self.warn(
                f"The training seems to have collapsed at step {step}: {self._flag.collapse.reason}. It goes "
                f"on; if samples get no better, {self._flag.collapse.advice}."
            )


def _discriminator(view: str, values: dict[str, float]) -> str:
    """Losses of D and G, and mean outputs on real and fake clips, as "crop D 1.20 G +0.30 (0.5/-0.3)"."""
    outputs = [f"{values[f'discriminator/{view}/{clips}']:.1f}" for clips in ("real", "fake")]
    of_d, of_g = values[f"loss/discriminator/{view}"], values[f"loss/generator/{view}"]
    return f"{view} D {of_d:.2f} G {of_g:+.2f} ({'/'.join(outputs)})"
