"""How fast the steps of a run go."""

LONG_WAIT = 0.1  # share of the time spent waiting for clips that calls for a warning
LONG_WAIT_ROWS = 3  # consecutive log rows with such waits before it comes; the first includes the workers' start


class Pace:
    """Seconds of the steps since the last row of the log, and how many of these were spent waiting for clips."""

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._waits: list[float] = []
        self._reading = 0.0
        self._long = 0  # consecutive rows with long waits

    def read(self, seconds: float, *, waiting: bool) -> None:
        """The clips of a step were read, `waiting` for them while nothing was computed."""
        self._reading = seconds
        self._waits.append(seconds if waiting else 0.0)

    def stepped(self, seconds: float) -> None:
        """A step was made with these clips."""
        self._steps.append(self._reading + seconds)
        self._reading = 0.0

    def row(self) -> tuple[float, float]:
        """Seconds of a step and share of the waits, since the last call."""
        seconds = sum(self._steps)
        row = seconds / len(self._steps), sum(self._waits) / seconds
        self._steps.clear()
        self._waits.clear()
        return row

    def has_waited(self, share: float) -> bool:
        """Whether a row's share of waits is the last of so many that a warning is due; it comes once."""
        if self._long == LONG_WAIT_ROWS:
            return False
        self._long = self._long + 1 if share > LONG_WAIT else 0
        return self._long == LONG_WAIT_ROWS
