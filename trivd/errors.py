"""The one exception that means "the user can mend this": its text is a sentence that names the way out."""


class TrivdError(Exception):
    """Bad input or settings. The command line prints the message alone and exits with status 2."""
