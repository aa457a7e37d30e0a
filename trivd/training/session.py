"""One session of training: steps, with logs, samples, scores and checkpoints at their intervals."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from itertools import islice
from pathlib import Path

from trivd.data.clips import ClipDataset
from trivd.data.loader import Batch, TrainingStream
from trivd.models.generator import Generator
from trivd.runtime.distributed import rank, world_size
from trivd.training.budget import Budget
from trivd.training.checkpoint import Progress, load_latest, save_checkpoint
from trivd.training.division import Division
from trivd.training.faults import UnreadableClips
from trivd.training.log import NoLog, TrainingLog
from trivd.training.objectives import Losses
from trivd.training.pace import Pace
from trivd.training.run import Run
from trivd.training.snapshot import SplitScores, averaged_generator, save_model, save_samples
from trivd.training.step import Trainer
from trivd.training.stops import Stopped, StopRequest
from trivd.training.verdicts import NonFiniteLossError
from trivd.training.watch import watched

Updates = list[list[Batch]]  # the clips of a step: of each update, the batches of its passes

ROLLBACKS = 5  # to one checkpoint, after which the training stops


class Session:
    """A training from its start, or from a checkpoint, to its end or a stop.

    Args:
        data: name of the data, for the saved models.
        run: the folder.
        trainer: at the step of `progress`.
        splits: the clips of each split.
        progress: how far the run has come.
        division: the parts of an update's batch.
    """

    def __init__(
        self,
        data: str,
        run: Run,
        trainer: Trainer,
        splits: dict[str, ClipDataset],
        progress: Progress,
        *,
        division: Division,
    ) -> None:
        config = trainer.config
        self.config = config
        self.data = data
        self.run = run
        self.trainer = trainer
        self.splits = splits
        self.division = division
        self.samples = progress.samples
        self.before = progress.seconds
        self.scores = SplitScores(
            splits, config.evaluation, config.model.conditioning_frames, next(trainer.generator.parameters()).device
        )
        # Scores of another criterion do not compare: I3D's weights may have come or gone since the last session.
        self.best_score = progress.best_score if progress.best_criterion == self.scores.criterion else None
        self.saved_step = progress.step
        self.saved_unscored = progress.unscored
        self.unscored = progress.unscored or trainer.step == 0  # whether samples and scores of this step are missing
        self.rollbacks = progress.rollbacks
        self.retries = 0  # rollbacks since the last checkpoint
        self.last: deque[Updates] = deque(maxlen=trainer.verdicts.lag)  # clips of steps whose verdict is not known
        self.again: deque[Updates] = deque()  # clips of steps that a rollback has undone, though they were sound
        self.unreadable = UnreadableClips(config.data.unreadable_share, progress.unreadable)
        self.started = time.monotonic()
        spent = progress.seconds if progress.spent is None else progress.spent
        self.budget = Budget(config.training.minutes, spent)
        self.pace = Pace()

    @property
    def seconds(self) -> float:
        """Time spent on the run, over all its sessions."""
        return self.before + time.monotonic() - self.started

    @property
    def ended(self) -> bool:
        """Whether the last step is made."""
        return self.trainer.step >= self.config.training.steps or self.budget.over

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done."""
        return self.ended and not self.unscored

    def kept(self) -> str:
        """The last checkpoint, as part of a sentence."""
        if self.saved_step == 0:
            return f"there is no checkpoint in {self.run.checkpoints} yet"
        return f"the last good checkpoint is step {self.saved_step} in {self.run.checkpoints}"

    def loop(self, log: TrainingLog | NoLog, stop: StopRequest) -> None:
        """Train until the last step or a signal to stop, and save a checkpoint then."""
        recipe = self.config.training
        stream = TrainingStream(
            self.splits["train"],
            self.division.clips,
            recipe.seed,
            self.samples,
            self.config.data.workers,
            rank=rank(),
            world=world_size(),
            warn=log.warn,
        )
        try:
            with stop.interrupting():
                batches = iter(stream)
            with closing(batches):  # ends the loader's processes, however the loop ends
                self._steps(batches, log, stop)
        except Stopped:
            pass
        if self.trainer.step > 0 and (self.saved_step, self.saved_unscored) != (self.trainer.step, self.unscored):
            self.checkpoint()

    def _steps(self, batches: Iterator[Batch], log: TrainingLog | NoLog, stop: StopRequest) -> None:
        """All steps that are left.

        Raises:
            Stopped: a signal to stop has interrupted something that can be repeated.
        """
        recipe = self.config.training
        if self.unscored:
            first = self.trainer.step == 0
            self.snapshot(log, stop, first or self._due(recipe.sample_every), first or self._due(recipe.evaluate_every))
        while not self.ended:
            try:
                with self.budget.counting():
                    updates = self._read(batches, stop)
                    if self.budget.look(updates is None or stop.received, self.trainer.device):
                        updates = None
                    if updates is not None:
                        self.step(updates, log)
                    samples, scores = self._due(recipe.sample_every), self._due(recipe.evaluate_every)
                    save = self._due(recipe.checkpoint_every)
                    if updates is None or samples or scores or save:
                        self.trainer.finish()
            except NonFiniteLossError as error:
                self.roll_back(error, log)
                continue
            if updates is None:
                return
            self.budget.end_step()
            if samples or scores:
                self.snapshot(log, stop, samples, scores)
            if save:
                self.checkpoint()

    def _read(self, batches: Iterator[Batch], stop: StopRequest) -> Updates | None:
        """The clips of a step, by update; None if a signal to stop comes first."""
        recipe, started = self.config.training, time.monotonic()
        if self.again:
            self.pace.read(0.0, waiting=False)
            return self.again.popleft()
        try:
            with stop.interrupting():
                updates = [list(islice(batches, self.division.passes)) for _ in range(recipe.discriminator_updates)]
                self.unreadable.update([batch for batches in updates for batch in batches])
        except Stopped:
            return None
        except Exception:
            self._rescue()
            raise
        self.pace.read(time.monotonic() - started, waiting=not self.trainer.verdicts.pending)
        return updates

    def _rescue(self) -> None:
        """Save a checkpoint before an error ends the training, if the error has left the networks as they were.

        Several processes do not: the others do not know of the error, and end at the last checkpoint.
        """
        if world_size() == 1 and self.saved_step < self.trainer.step:
            with suppress(OSError, NonFiniteLossError):  # the first error is the one to report
                self.trainer.finish()
                self.checkpoint()

    def step(self, updates: Updates, log: TrainingLog | NoLog) -> None:
        """Run one training step, and write its row to the log if one is due."""
        recipe, started = self.config.training, time.monotonic()
        self.samples += self._clips
        self.last.append(updates)
        self.trainer.share = self.budget.share
        losses = self.trainer.train_step(updates)
        self.pace.stepped(time.monotonic() - started)
        step = self.trainer.step
        log.advance(step)
        if self._due(recipe.log_every):
            self.trainer.finish()
            frames = self.config.frames_at(recipe.position(step - 1, self.budget.share))
            self._write_row(log, losses, self._clips * frames)

    @property
    def _clips(self) -> int:
        """Clips that a step takes, over all processes."""
        return self.config.training.discriminator_updates * self.config.training.batch_size

    def _say_unreadable(self, log: TrainingLog | NoLog) -> None:
        for sentence in self.unreadable.new():
            log.warn(f"Another clip is taken: {sentence}")

    def roll_back(self, error: NonFiniteLossError, log: TrainingLog | NoLog) -> None:
        """Return to the last checkpoint, and continue with other clips than those that followed it before.

        Raises:
            NonFiniteLossError: `error`, if rollbacks are off, there is no checkpoint, or there were too many.
        """
        if self.config.training.on_nan == "stop" or self.retries == ROLLBACKS:
            raise error
        undone = self.trainer.step - error.step  # steps that were launched before the verdict was known
        progress, damaged = load_latest(self.run.checkpoints, self.trainer)
        if progress is None:
            raise error
        self.again.extendleft(reversed(list(self.last)[len(self.last) - undone :]))
        self.samples -= undone * self._clips
        for line in damaged:
            log.warn(line)
        self.saved_step = progress.step
        self.rollbacks, self.retries = self.rollbacks + 1, self.retries + 1
        log.warn(f"{error} Back to step {progress.step}, and on with other clips ({self.rollbacks} so far).")

    def _write_row(self, log: TrainingLog | NoLog, losses: Losses, images: int) -> None:
        """Log the losses of the last step, and the speed since the last row; `images` are those of one step."""
        step, (pace, wait_share) = self.trainer.step, self.pace.row()
        values = {name: value.item() for name, value in losses.items()}
        faults = {"rollbacks": self.rollbacks, "unreadable_clips": self.unreadable.total()}
        values |= {f"fault/{name}": float(count) for name, count in faults.items() if count}
        if self.budget.seconds is not None:
            values["schedule/share"] = self.budget.share
        self._say_unreadable(log)
        left = min((self.config.training.steps - step) * pace, self.budget.left)
        log.losses(step, values, images / pace, wait_share, left)
        if self.pace.has_waited(wait_share):
            log.warn(
                f"{wait_share:.0%} of the time is spent waiting for clips. Stop, and resume with a larger "
                f"data.workers (now {self.config.data.workers})."
            )

    def _due(self, every: int) -> bool:
        """Whether something that is done every so many steps, and after the last, is due after this step."""
        return self.trainer.step % every == 0 or self.budget.last or self.ended

    def snapshot(self, log: TrainingLog | NoLog, stop: StopRequest, samples: bool, score: bool) -> None:
        """Draw samples of the averaged model or score it, and save it if it is the best so far.

        Raises:
            Stopped: a signal to stop has come; nothing is kept, and a later call gives the same. Several processes
                score together and finish first.
        """
        trainer, run = self.trainer, self.run
        evaluation, values = self.config.evaluation, {}
        self.unscored = True
        try:
            with stop.interrupting() if world_size() == 1 else nullcontext():
                generator = averaged_generator(trainer, self.splits["train"])
                if samples and rank() == 0:
                    path = run.samples / f"step-{trainer.step:08d}.png"
                    save_samples(path, generator, self.scores.clips["validation"], evaluation, trainer.dtype)
                if score:
                    values = self.scores(generator, trainer.dtype)
                    if rank() == 0:
                        values |= watched(generator, self.scores.clips["validation"], evaluation, trainer.dtype)
        except Exception:
            self._rescue()
            raise
        self.unscored = False
        if score:
            log.scores(trainer.step, values, self.scores.distance_name)
            for clips in self.scores.clips.values():
                self.unreadable.note(clips.unreadable)
            self._say_unreadable(log)
            result = values[f"score/train/{self.scores.criterion}"]
            if self.best_score is None or self.scores.is_better(result, self.best_score):
                self.best_score = result
                self._save(run.best, generator)
        if self.ended:
            self._save(run.last, generator)

    def _save(self, folder: Path, generator: Generator) -> None:
        if rank() == 0:
            save_model(folder, generator, self.trainer, self.data, self.seconds)

    def checkpoint(self) -> None:
        """Save a checkpoint of this step; all processes call it together."""
        progress = Progress(
            self.trainer.step,
            self.samples,
            self.seconds,
            self.best_score,
            self.scores.criterion,
            self.rollbacks,
            self.unreadable.total(),
            self.unscored,
            self.budget.to_save,
        )
        if rank() == 0:
            save_checkpoint(self.run.checkpoints, self.trainer, progress)
        self.saved_step, self.saved_unscored, self.retries = self.trainer.step, self.unscored, 0
