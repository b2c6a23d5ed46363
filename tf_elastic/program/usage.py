"""The error of a user, whose message says what to do."""

import contextlib
from collections.abc import Iterator


class UsageError(Exception):
    """The program cannot do what was asked; the message says what to do."""


@contextlib.contextmanager
def explained(hint: str) -> Iterator[None]:
    """Turns an error about what was asked for into a message."""
    try:
        yield
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise UsageError(f"{error}\n{hint}") from error
