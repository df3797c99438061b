"""The exception for user errors."""


class UserError(Exception):
    """A mistake the user can fix; the message is one line with rule, value and place.

    Commands print it on stderr and exit with code 2. Any other exception is a bug and keeps its
    traceback.
    """
