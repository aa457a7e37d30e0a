"""Errors that the user can fix: an exception whose message names the remedy, and messages for errors of the system."""

import errno

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TrivdError(Exception):
    """Invalid input or settings. The command line prints the message alone and exits with status 2."""


def is_disk_full(error: OSError) -> bool:
    """Whether a file could not be written because the disk or a quota is full."""
    return error.errno in _FULL


def os_error_sentence(error: OSError) -> str:
    """The message about an error of a file or the system, with the remedy."""
    if is_disk_full(error):
        return "The disk is full; what was finished is kept. Free some space, and repeat the command."
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"The system reports: {reason}. What was finished is kept; fix that, and repeat the command."
    places = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{places} cannot be read or written ({reason}); fix that or name another place, and repeat the command."
