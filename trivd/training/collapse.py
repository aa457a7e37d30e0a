"""Signs of collapse in a training log: discriminators that win or run away, or samples that are all alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WON = 0.02  # hinge loss of a discriminator that is never wrong; one that cannot tell has 2
LASTING = 1_000  # consecutive steps that every discriminator must have won
AWAY = -4.0  # mean output on fake clips; the hinge asks for -1
AWAY_LASTING = 500  # consecutive steps that a discriminator must have been below it
FEWEST_ROWS = 5  # log rows that these steps must have
CONSTANT = 0.1  # spread of the samples over clips, relative to the truth's
WORSE = 2.0  # last distance, relative to the best, from which a training counts as worsened

WEAKER = "lower training.discriminator_lr or raise training.reconstruction"
HELD_BACK = "hold discriminators back by training.lecam or training.r1, or lower training.discriminator_lr"

Row = Mapping[str, float]  # of the training log


@dataclass(frozen=True)
class Collapse:
    """The step at which the log shows a collapse first, the sign, and what to change."""

    step: int
    reason: str
    advice: str


class CollapseFlag:
    """Watches a training log; `collapse` is None until it shows one, and stays from then on."""

    def __init__(self) -> None:
        self.collapse: Collapse | None = None
        self._won: list[int] = []  # steps of the latest consecutive rows in which no discriminator was wrong
        self._away: dict[str, list[int]] = {}  # of each discriminator, of those in which it was far below -1 on fakes

    def update(self, row: Row) -> None:
        """Take in the next row: one with "loss/discriminator/<view>" of each discriminator, or "score/train/spread".

        Their outputs on fake clips are told by G's losses, "loss/generator/<view>", which are minus their means (Eq 14)
        and in the logs of all versions.
        """
        if self.collapse is not None:
            return
        step = int(row["step"])
        losses = [value for name, value in row.items() if name.startswith("loss/discriminator/")]
        if losses:
            self._won = [*self._won, step] if max(losses) < WON else []
            if _lasts(self._won, LASTING):
                self.collapse = Collapse(step, f"no discriminator has been wrong since step {self._won[0]}", WEAKER)
        for name, loss in row.items():
            if name.startswith("loss/generator/"):
                self._see_output(step, name.rpartition("/")[2], -loss)
        spread = row.get("score/train/spread")
        if spread is not None and step > 0 and spread < CONSTANT:
            reason = f"samples differ between clips by {spread:.0%} of what true clips do"
            self.collapse = Collapse(step, reason, WEAKER)

    def _see_output(self, step: int, view: str, fake: float) -> None:
        steps = self._away[view] = [*self._away.get(view, []), step] if fake < AWAY else []
        if self.collapse is None and _lasts(steps, AWAY_LASTING):
            reason = f"discriminator {view} has given fakes less than {AWAY:g} since step {steps[0]}, where -1 will do"
            self.collapse = Collapse(step, reason, HELD_BACK)


def _lasts(steps: Sequence[int], long: int) -> bool:
    return len(steps) >= FEWEST_ROWS and steps[-1] - steps[0] >= long


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
