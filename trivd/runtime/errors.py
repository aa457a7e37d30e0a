"""What the user can mend: an exception whose text is a sentence that names the way out, and faults of the system."""

import errno

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TrivdError(Exception):
    """Bad input or settings. The command line prints the message alone and exits with status 2."""


def is_disk_full(error: OSError) -> bool:
    """Whether a file could not be written for want of space, or a quota."""
    return error.errno in _FULL


def os_error_sentence(error: OSError) -> str:
    """What went wrong with a file or the system, and the way out."""
    if is_disk_full(error):
        return "The disk is full; what was finished is kept. Free some space, and repeat the command."
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"The system reports: {reason}. What was finished is kept; mend that, and repeat the command."
    places = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{places} cannot be read or written ({reason}); mend that or name another place, and repeat the command."
