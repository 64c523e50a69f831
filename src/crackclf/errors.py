"""The one error a user's mistake raises, and the one way to tell a user something."""

import sys


class UserError(ValueError):
    """Bad input: the message names it, says what was expected and what to do.

    The command line prints the message without a traceback and exits with 2.
    """


def notice(message: str) -> None:
    """Prints one line for the user on standard error, apart from any results."""
    print(f"crackclf: {message}", file=sys.stderr, flush=True)
