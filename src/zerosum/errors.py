"""The one error that a user is meant to read: what was wrong, with which value, and what to do."""


class UserError(Exception):
    """Bad input. The message names the argument, the value and the remedy; the command exits with status 2."""


class SizeError(UserError):
    """An image size that a network does not take; `nearest` (height, width) is the next that it does, not larger."""

    def __init__(self, message: str, nearest: tuple[int, int]) -> None:
        super().__init__(message)
        self.nearest = nearest
