"""The error of a user, whose message says what to do."""

import contextlib
from collections.abc import Iterator

from tf_elastic import extras


class UsageError(Exception):
    """The program cannot do what was asked; the message says what to do."""


@contextlib.contextmanager
def explained(hint: str) -> Iterator[None]:
    """Turns an error about what was asked for into a message."""
    try:
        yield
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise UsageError(f"{error}\n{hint}") from error


def require(package: str, flag: str, otherwise: str) -> None:
    """Refuses a flag whose package is not installed.

    Args:
        package: as of `extras.require`.
        flag: what needs it.
        otherwise: what to do instead.
    """
    try:
        extras.require(package, flag, otherwise)
    except extras.MissingExtraError as error:
        raise UsageError(str(error)) from error
