"""Faults around a training as sentences that say what is kept and how to resume."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from trivd.config import Config, override
from trivd.data.loader import Batch
from trivd.data.processes import WorkerLostError
from trivd.evaluation.readable import MOST_NAMED
from trivd.runtime.distributed import all_gather, is_peer_failure, lost_peer, rank, world_size
from trivd.runtime.errors import TrivdError, is_disk_full
from trivd.runtime.hardware import memory_bytes
from trivd.training.division import divide
from trivd.training.plan import make_plan
from trivd.training.verdicts import NonFiniteLossError

RECENT_CLIPS = 1_000  # clips of which a share may be unreadable


@contextmanager
def faults_explained(config: Config, device: torch.device, kept: Callable[[], str]) -> Iterator[None]:
    """Within, faults of the training, the machine and other processes raise an explanatory TrivdError.

    Args:
        config: all settings.
        device: of the training.
        kept: a sentence about what is kept of the run.

    Raises:
        TrivdError: instead of errors for a loss that is not finite, a full or broken disk, exhausted memory, or the
            end of a process that reads clips or trains with this one.
    """
    try:
        yield
    except NonFiniteLossError as error:
        raise TrivdError(
            f"{error} Training stopped; {kept()}. Lower the learning rates and start another --out, or repeat the "
            "command with --on-nan rollback."
        ) from error
    except WorkerLostError as error:
        raise TrivdError(
            f"A process that reads clips was ended from outside ({error}), perhaps because memory ran out. Training "
            f"stopped; {kept()}. Repeat the command; if it happens again, with fewer --data.workers (now "
            f"{config.data.workers})."
        ) from error
    except OSError as error:
        what, way_out = _disk_fault(error)
        raise TrivdError(f"{what} Training stopped; {kept()}. {way_out}, and repeat the command to resume.") from error
    except (RuntimeError, MemoryError) as error:
        if sentence := _explanation(error, config, device, kept):
            raise TrivdError(sentence) from error
        raise


def _disk_fault(error: OSError) -> tuple[str, str]:
    """A sentence about the fault, and the way out."""
    if is_disk_full(error):
        return "The disk is full.", "Free some space"
    place = f" ({error.filename})" if error.filename else ""
    return f"The system reports: {error.strerror or error}{place}.", "Correct that"


def _explanation(
    error: RuntimeError | MemoryError, config: Config, device: torch.device, kept: Callable[[], str]
) -> str:
    """A sentence about the fault, and the way out; "" for an error of another kind."""
    if is_out_of_memory(error):
        return f"Out of memory; {kept()}. {smaller_steps(config, device)}"
    if is_peer_failure(error):
        return (
            f"{lost_peer(error, config.training.patience)} Training stopped; {kept()}. See what the other says, and "
            "repeat the command to resume; training.patience is how long one waits."
        )
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: on a GPU, or in main memory by torch or Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # For main memory torch has no error class; the second text is oneDNN's, when its buffers do not fit.
    return any(text in str(error) for text in ("can't allocate memory", "could not create a primitive"))


def smaller_steps(config: Config, device: torch.device) -> str:
    """Settings with the same global batch that fit into the device's memory, by the estimates of `--dry-run`."""
    recipe, available = config.training, memory_bytes(device)
    plan, (passes, clips) = make_plan(config, world_size()), divide(recipe, world_size())
    estimated = plan.state_bytes + plan.activation_bytes
    smaller = {
        size: plan.state_bytes + plan.activation_bytes * size // clips
        for size in range(clips - 1, 0, -1)
        if passes * clips % size == 0
    }
    ways = []
    if smaller:
        size = next((size for size, needed in smaller.items() if needed <= available), 1)
        ways.append(f"with --training.microbatch {size} and another --out it takes about {_gib(smaller[size])}")
    if not recipe.checkpoint_activations:
        lean = make_plan(override(config, {"training": {"checkpoint_activations": True}}, "training"), world_size())
        ways.append(
            f"with --training.checkpoint-activations, also for a run that has begun, about "
            f"{_gib(lean.state_bytes + lean.activation_bytes)}"
        )
    ways = ways or ["take a smaller model"]
    return f"A step takes up to {_gib(estimated)} in float32, and there are {_gib(available)}: {'; '.join(ways)}."


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


class UnreadableClips:
    """Counter of training clips that were replaced because they could not be read, in all processes.

    Args:
        share: unreadable share of the last 1,000 clips of a process above which the training stops.
        total: count so far, of all processes.
    """

    def __init__(self, share: float, total: int) -> None:
        self.share = share
        self._own = total if rank() == 0 else 0
        self._recent: deque[bool] = deque(maxlen=RECENT_CLIPS)
        self._waiting: list[str] = []  # sentences of this process since the last `new`
        self._said: list[str] = []

    def update(self, batches: Sequence[Batch]) -> None:
        """Count the replaced clips of some batches.

        Raises:
            TrivdError: there are too many.
        """
        for batch in batches:
            self._recent.extend([False] * len(batch.labels))
            self._recent.extend([True] * len(batch.unreadable))
            self.note(batch.unreadable)
        if sum(self._recent) > self.share * RECENT_CLIPS:
            raise TrivdError(
                f"{sum(self._recent)} of the last {len(self._recent):,} clips could not be read, and "
                f"data.unreadable_share allows {self.share:.1%} of {RECENT_CLIPS:,}. The first: "
                f"{[*self._said, *self._waiting][0]} Training stopped; what was saved is kept. Repair the videos, or "
                "raise the share."
            )
        self._own += sum(len(batch.unreadable) for batch in batches)

    def note(self, sentences: Sequence[str]) -> None:
        """Keep sentences about unreadable videos until `new` returns them."""
        self._waiting += sentences

    def total(self) -> int:
        """The count of all processes; all call it together."""
        return sum(all_gather(self._own))

    def new(self) -> list[str]:
        """Sentences of all processes that are new, up to a number in all; all processes call it together."""
        found = dict.fromkeys(sentence for waiting in all_gather(self._waiting) for sentence in waiting)
        self._waiting = []
        new = [sentence for sentence in found if sentence not in self._said][: max(0, MOST_NAMED - len(self._said))]
        self._said += new
        return new
