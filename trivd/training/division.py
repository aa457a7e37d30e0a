"""How processes and accumulated passes divide the clips of an update."""

from typing import NamedTuple

from trivd.config import TrainingConfig
from trivd.runtime.errors import TrivdError


class Division(NamedTuple):
    """The parts of an update's batch. In each pass, all processes together take processes x clips of it."""

    passes: int  # forward and backward passes whose gradients are added up
    clips: int  # of each process in a pass

    def text(self, processes: int) -> str:
        """The whole batch and its parts."""
        total = processes * self.passes * self.clips
        return f"{total} clips = {processes} x {self.passes} x {self.clips} (processes x passes x clips)"


def divide(recipe: TrainingConfig, processes: int, least_passes: int = 1) -> Division:
    """Share the batch equally: in the smallest number of equal passes that `training.microbatch` allows.

    Batch normalisation and mixed pairs (E.1) see the clips of a pass, so a result depends on the number of passes, but
    not on the number of processes.

    Args:
        recipe: with batch_size and microbatch.
        processes: number of processes.
        least_passes: number of passes that the run began with; there may be more, not fewer.

    Raises:
        TrivdError: the processes cannot share the batch equally.
    """
    share, rest = divmod(recipe.batch_size, processes)
    if rest or share < least_passes:
        raise TrivdError(
            f"{processes} processes cannot share the {recipe.batch_size} clips of an update (--training.batch-size) "
            f"equally; start {_near(recipe.batch_size, processes, least_passes)}."
        )
    most = recipe.microbatch or share
    passes = next(n for n in range(least_passes, share + 1) if share % n == 0 and share // n <= most)
    return Division(passes, share // passes)


def _near(batch: int, processes: int, least_passes: int) -> str:
    """The nearest numbers of processes that can share a batch."""
    able = [n for n in range(1, batch // least_passes + 1) if batch % n == 0]
    below, above = [n for n in able if n < processes], [n for n in able if n > processes]
    return " or ".join(map(str, [*below[-1:], *above[:1]]))
