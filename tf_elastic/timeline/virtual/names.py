"""Names that somebody has typed: what is meant if there is no such one."""

import difflib
from collections.abc import Collection
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str]) -> str:
    """A question for an error message: " Did you mean ...?", or nothing."""
    found = difflib.get_close_matches(str(name), list(known), 1, 0.5)
    return f" Did you mean {found[0]!r}?" if found else ""


def check_known(
    what: str, names: Iterable[str], known: Collection[str]
) -> None:
    """Refuses names that do not exist.

    Args:
        what: they are names of, as "a timing".
        names: that were given.
        known: that there are.

    Raises:
        ValueError: one is not known; the nearest that is, is told.
    """
    for name in names:
        if name not in known:
            raise ValueError(
                f"There is no {name!r:.80} in {what}.{nearest(name, known)} "
                f"It has: {', '.join(sorted(known))}."
            )
