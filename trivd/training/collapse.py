"""Signs of collapse in a training log: discriminators that always win, or samples that are all alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WON = 0.02  # hinge loss of a discriminator that is never wrong; one that cannot tell has 2
LASTING = 1_000  # consecutive steps that every discriminator must have won
FEWEST_ROWS = 5  # log rows that these steps must have
CONSTANT = 0.1  # spread of the samples over clips, relative to the truth's
WORSE = 2.0  # last distance, relative to the best, from which a training counts as worsened

Row = Mapping[str, float]  # of the training log


@dataclass(frozen=True)
class Collapse:
    """The step at which the log shows a collapse first, and the sign."""

    step: int
    reason: str


class CollapseFlag:
    """Watches a training log; `collapse` is None until it shows one, and stays from then on."""

    def __init__(self) -> None:
        self.collapse: Collapse | None = None
        self._won: list[int] = []  # steps of the latest consecutive rows in which no discriminator was wrong

    def update(self, row: Row) -> None:
        """Take in the next row: one with "loss/discriminator/<view>" of each discriminator, or "score/train/spread"."""
        if self.collapse is not None:
            return
        step = int(row["step"])
        losses = [value for name, value in row.items() if name.startswith("loss/discriminator/")]
        if losses:
            self._won = [*self._won, step] if max(losses) < WON else []
            if len(self._won) >= FEWEST_ROWS and step - self._won[0] >= LASTING:
                self.collapse = Collapse(step, f"no discriminator has been wrong since step {self._won[0]}")
        spread = row.get("score/train/spread")
        if spread is not None and step > 0 and spread < CONSTANT:
            self.collapse = Collapse(step, f"samples differ between clips by {spread:.0%} of what true clips do")


def first_collapse(rows: Iterable[Row]) -> Collapse | None:
    """The collapse that a whole log, ordered by step, shows first; None if it shows none."""
    flag = CollapseFlag()
    for row in rows:
        flag.update(row)
    return flag.collapse


def has_worsened(rows: Sequence[Row]) -> bool:
    """Whether the last distance to the training clips is more than twice the best one."""
    distances = [row["score/train/distance"] for row in rows if "score/train/distance" in row]
    return bool(distances) and distances[-1] > WORSE * min(distances)
