"""What the user can mend: an exception whose text is a sentence that names the way out, and faults of the disk."""

import errno

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TrivdError(Exception):
    """Bad input or settings. The command line prints the message alone and exits with status 2."""


def is_disk_full(error: OSError) -> bool:
    """Whether a file could not be written for want of space, or a quota."""
    return error.errno in _FULL
