"""What is wrong in a log, and where."""

from collections.abc import Callable
from typing import NamedTuple

from tf_elastic.timeline.event import Event

# Who tells "seconds" reads two clocks, one of which may be set meanwhile.
SLACK_S = 1.0


class Entry(NamedTuple):
    """An event, and where it stands."""

    place: str  # "event 17", "run.jsonl:17"
    event: Event


class Violation(NamedTuple):
    """Something that cannot have been so."""

    place: str
    event: Event
    what: str

    def __str__(self) -> str:
        who = (
            "" if self.event.worker is None else f", worker {self.event.worker}"
        )
        return (
            f"{self.place} ({self.event.kind}, told by {self.event.teller}"
            f"{who}): {self.what}"
        )


# Called with an entry, and what is wrong with it.
Report = Callable[[Entry, str], None]
