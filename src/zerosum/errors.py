"""The one error that a user is meant to read: what was wrong, with which value, and what to do."""


class UserError(Exception):
    """Bad input. The message names the argument, the value and the remedy; the command exits with status 2."""
