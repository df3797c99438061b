"""The one exception for mistakes of the user's."""


class UserError(Exception):
    """A mistake the user can mend; its text is one line naming rule, value and place.

    Commands print it on stderr and exit with code 2. Anything else that goes wrong is ours
    and keeps its traceback.
    """
