"""What may go wrong around a training, in sentences that say what is kept and how to go on."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from trivd.config import Config, override
from trivd.data.loader import Batch
from trivd.distributed import is_peer_failure, lost_peer
from trivd.errors import TrivdError, is_disk_full
from trivd.hardware import memory_bytes
from trivd.training.plan import make_plan
from trivd.training.step import NonFiniteLossError

RECENT_CLIPS = 1_000  # of which a share may be unreadable
NAMED = 20  # unreadable videos that are named one by one


@contextmanager
def faults_explained(config: Config, device: torch.device, kept: Callable[[], str]) -> Iterator[None]:
    """Within, faults of the training, the machine and the other processes become sentences.

    Args:
        config: all settings.
        device: of the training.
        kept: says what is kept of the run.

    Raises:
        TrivdError: instead of a loss that is not finite, a full disk, memory that is used up, or an end of another
            process.
    """
    try:
        yield
    except NonFiniteLossError as error:
        raise TrivdError(
            f"{error} Training stopped; {kept()}. Lower the learning rates and start another --out, or repeat the "
            "command with --on-nan rollback."
        ) from error
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise TrivdError(
            f"The disk is full. Training stopped; {kept()}. Free some space, and repeat the command to go on."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise TrivdError(f"Out of memory; {kept()}. {smaller_steps(config, device)}") from error
        if is_peer_failure(error):
            raise TrivdError(
                f"{lost_peer(config.training.patience)} Training stopped; {kept()}. See what the other says, and "
                "repeat the command to go on; training.patience is how long one waits."
            ) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: on a GPU, or in main memory by torch or Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # In main memory torch has no error of its own; the second is what oneDNN says when its buffers do not fit.
    return any(text in str(error) for text in ("can't allocate memory", "could not create a primitive"))


def smaller_steps(config: Config, device: torch.device) -> str:
    """Settings with the same global batch that fit into the device's memory, by the estimates of `--dry-run`."""
    recipe, available = config.training, memory_bytes(device)
    plan = make_plan(config)
    batch_size, accumulation = recipe.batch_size, recipe.accumulation
    needed = estimated = plan.state_bytes + plan.activation_bytes
    while batch_size % 2 == 0 and (batch_size == recipe.batch_size or needed > available):
        batch_size, accumulation = batch_size // 2, 2 * accumulation
        needed = plan.state_bytes + plan.activation_bytes * batch_size // recipe.batch_size
    ways = []
    if batch_size < recipe.batch_size:
        options = f"--training.batch-size {batch_size} --training.accumulation {accumulation}"
        ways.append(f"with {options} and another --out it takes about {_gib(needed)}")
    if not recipe.checkpoint_activations:
        lean = make_plan(override(config, {"training": {"checkpoint_activations": True}}, "training"))
        ways.append(
            f"with --training.checkpoint-activations, also for a run that has begun, about "
            f"{_gib(lean.state_bytes + lean.activation_bytes)}"
        )
    ways = ways or ["take a smaller model"]
    return f"A step takes up to {_gib(estimated)} in float32, and there are {_gib(available)}: {'; '.join(ways)}."


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


class UnreadableClips:
    """Counts the training clips for which others had to be taken.

    Args:
        share: of the last 1,000 clips, above which the training stops.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.total = 0
        self._recent: deque[bool] = deque(maxlen=RECENT_CLIPS)
        self._said: list[str] = []

    def update(self, batches: Sequence[Batch]) -> None:
        """Count those of some batches.

        Raises:
            TrivdError: they are too many.
        """
        for batch in batches:
            self.total += len(batch.unreadable)
            self._recent.extend([False] * len(batch.labels))
            self._recent.extend([True] * len(batch.unreadable))
        if sum(self._recent) > self.share * RECENT_CLIPS:
            raise TrivdError(
                f"{sum(self._recent)} of the last {len(self._recent):,} clips could not be read, and "
                f"data.unreadable_share allows {self.share:.1%} of {RECENT_CLIPS:,}. The first: {self._said[0]} "
                "Training stopped; what was saved is kept. Repair the videos, or raise the share."
            )

    def new(self, sentences: Sequence[str]) -> list[str]:
        """Those of the sentences about unreadable videos that were not said before, as long as they are not many."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._said]
        new = new[: max(0, NAMED - len(self._said))]
        self._said += new
        return new
