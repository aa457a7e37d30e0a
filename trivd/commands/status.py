"""Exit statuses of `trivd`."""

DONE = 0  # complete
BAD_INPUT = 2  # one sentence on standard error says what and the way out
STOPPED = 3  # by a signal; the same command resumes
INTERRUPTED = 130  # by the user, where there is nothing to resume
