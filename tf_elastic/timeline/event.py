"""One thing that has happened in a cluster: what, who, when, which versions."""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

if TYPE_CHECKING:
    import numpy as np

# What a center server tells.
BEGIN = "begin"  # it has parameters: outcome FIRST or RESTORED
JOIN = "join"  # a worker has its slot
LEAVE = "leave"  # a worker gives it back: outcome FINISHED or LEFT
DEATH = "death"  # a worker was not heard of for a lease
EXCHANGE = "exchange"  # a message has arrived: outcome APPLIED to REFUSED
ROUND = "round"  # a synchronous exchange has ended, `amount` took part
# What a worker tells.
ANSWER = "answer"  # of `amount` servers, to its message: outcome APPLIED, or
# MISSED if none has answered
SETTLE = "settle"  # it does what the rule says about an answer
START = "start"  # it goes on from the center, at `version_read`
END = "end"  # its training is over for now
WAIT = "wait"  # training stood still for `seconds`
MISS = "miss"  # a center server was away for an exchange
LOST_HALF = "lost_half"  # `amount` halves: the center has moved, the worker not
FORGOTTEN = "forgotten"  # the worker has; the center was set back since
RESTART = "restart"  # it begins again from the center
AWAY = "away"  # a center server does not answer
BACK = "back"  # it does again, after `seconds` and `amount` missed exchanges
# What both ends of an edge of a tree tell, workers and center servers alike.
ATTACH = "attach"  # the child has joined a parent: the first one, or another
SEND = "send"  # a point leaves, or waits until it can
DROP = "drop"  # one that waited, at who tells it: a newer one came

KINDS = (
    *(BEGIN, JOIN, LEAVE, DEATH, EXCHANGE, ROUND),
    *(ANSWER, SETTLE, START, END, WAIT),
    *(MISS, LOST_HALF, FORGOTTEN, RESTART, AWAY, BACK),
    *(ATTACH, SEND, DROP),
)

# How the message of an EXCHANGE has come.
TAKE = "take"  # it is answered by the point to go on from
PUSH = "push"  # of a difference to what was read before; by nothing
# "exchange": a point; it is answered by the difference to the center
DEPOSIT = "deposit"  # to a ROUND, in which all meet

# In a tree, where nothing is answered: whose point it is.
UP = "up"  # a child's
DOWN = "down"  # its parent's

CALLS = (TAKE, PUSH, EXCHANGE, DEPOSIT, UP, DOWN)

# What became of it.
APPLIED = "applied"
LATE = "late"  # left out; see `core.lateness`
DUPLICATE = "duplicate"  # was there before
REFUSED = "refused"  # not finite, say
MISSED = "missed"  # no center server was there
FIRST = "first"  # a worker's parameters
RESTORED = "restored"  # a snapshot's
FINISHED = "finished"  # has done its part
LEFT = "left"  # has not

OUTCOMES = (
    *(APPLIED, LATE, DUPLICATE, REFUSED, MISSED),
    *(FIRST, RESTORED, FINISHED, LEFT),
)


class Event(NamedTuple):
    """One thing that has happened. What does not apply is None."""

    kind: str  # one of KINDS
    time: float  # s, since 1970; in virtual time, since the beginning
    teller: str  # "center 0", "worker 1"
    worker: int | None = None  # whose
    group: int = 0  # the optimizer, where a model has several
    shard: int | None = None  # the center server
    incarnation: int | None = None  # of the worker; with
    sequence: int | None = None  # this one its message has no other's number
    step_sent: int | None = None  # local steps, when the message left
    step_applied: int | None = None  # when its answer was followed, or now
    version_settled: int | None = None  # after it, of the answer
    version_read: int | None = None  # the message was made with, or begun at
    version_applied: int | None = None  # as the message found it
    num_workers: int | None = None  # p
    rates: Mapping[str, float | None] | None = None  # of the exchange
    bytes: int | None = None  # of arrays, both ways
    seconds: float | None = None  # how long; of EXCHANGE, since it was read
    amount: int | None = None  # how many
    outcome: str | None = None  # one of OUTCOMES
    call: str | None = None  # one of CALLS
    # Of START: "protocol", "rule", "compression", and "model": see
    # `fingerprint`.
    settings: Mapping[str, Any] | None = None
    # In a tree, which edge: by its child, "worker 1" or "center 3", and by the
    # center server that is the parent. Of ATTACH also the parent before.
    child: str | None = None
    parent: int | None = None
    parent_before: int | None = None

    @property
    def staleness(self) -> int | None:
        """Versions applied between the worker's read and its message."""
        if self.version_applied is None or self.version_read is None:
            return None
        return max(self.version_applied - self.version_read, 0)

    @property
    def worker_step(self) -> int:
        """The worker's local steps by then, as far as it is told; or 0."""
        sent, applied = self.step_sent or 0, self.step_applied or 0
        if self.call == DOWN:  # It was sent at its parent's.
            return applied if self.teller == f"worker {self.worker}" else 0
        return sent if self.call == UP else max(sent, applied)

    def to_json(self) -> str:
        """One line, without what does not apply."""
        fields: dict[str, Any] = {
            name: value
            for name, value in zip(self._fields, self, strict=True)
            if value != self._field_defaults.get(name, value)
            or name not in self._field_defaults
        }
        for name in ("rates", "settings"):
            if fields.get(name) is not None:
                fields[name] = dict(fields[name])
        return json.dumps(fields, separators=(",", ":"), default=_number)

    @classmethod
    def from_json(cls, line: str) -> "Event":
        """What `to_json` gave.

        Raises:
            ValueError: it is not an event; what is wrong is said.
        """
        try:
            fields = json.loads(line)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
        for name, value in fields.items():
            if name not in cls._fields:
                raise ValueError(f"an event has no {name!r:.80}")
            if not _fits(name, value):
                raise ValueError(f"{name} is {value!r:.80}")
        missing = {"kind", "time", "teller"} - set(fields)
        if missing:
            raise ValueError(f"it has no {min(missing)!r}")
        return cls(**fields)


_CHOICES = {"kind": KINDS, "outcome": OUTCOMES, "call": CALLS}
_NUMBERS = ("time", "seconds")


def _number(value: "np.generic") -> object:
    """NumPy's numbers as Python's."""
    return value.item()


def _fits(name: str, value: Any) -> bool:
    """Whether a field may have a value."""
    if name in _CHOICES:
        return value in _CHOICES[name]
    if name in ("teller", "child"):
        return isinstance(value, str)
    if name == "settings":
        return isinstance(value, dict)
    if name == "rates":
        return isinstance(value, dict) and all(
            rate is None or type(rate) in (int, float)
            for rate in value.values()
        )
    if name in _NUMBERS:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is int
