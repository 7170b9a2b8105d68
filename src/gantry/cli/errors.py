"""What ends a command: `main` prints the text on standard error and exits with the status."""

from __future__ import annotations


class CommandError(Exception):
    """A command failed; the text, where there is one, goes to standard error on lines of its own."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class StartError(CommandError):
    """A container cannot be created or started; a pointer to the command's help follows the message."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message, status)


class UsageError(CommandError):
    """The words make no valid call; the command's usage follows the message."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message, status)
