"""When a child's message leaves, and what comes back when.

A protocol is a state machine without threads, sockets or time. It is told that
a *moment* has come at which an exchange is due, and what has arrived since,
and says what is to be done, in order. Whoever drives it does that: a worker
with its thread and the network, a test step by step, a simulator with a queue
of events.

`blocking`     Algorithms 1 to 3: the child waits for its parent.
`overlapped`   section 2.2: the message leaves at the start of a period; the
               answer comes while training goes on, and is followed at its end.
`synchronous`  eqs. 2.3 and 2.4: all children meet.
`one_way`      Algorithm 6: each sends where it is, up and down, and nothing is
               answered; what arrives is followed at once.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar
from typing import NamedTuple

from tf_elastic.core import one_way
from tf_elastic.core.orders import GAUSS_SEIDEL
from tf_elastic.core.rules import POINT
from tf_elastic.core.rules import Rule

# Moments at which a child's protocol is asked.
GRADIENT = "gradient"  # a gradient was taken, and is about to be followed
STEP = "step"  # a local step was taken
END = "end"  # training is over for now

# What is to be done.
MAKE = "make"  # make a message of where the child is, and has been
READ = "read"  # ask the parent for its point, and wait for it
PUSH = "push"  # bring the parent a message, and wait for the answer
SEND = "send"  # let a message leave
MEET = "meet"  # bring a message to where all meet, and wait for the others
COLLECT = "collect"  # wait for the answer to what has left
SETTLE = "settle"  # do what the rule says about what came

# Who a message is for, and comes from.
PARENT = "parent"


class Action(NamedTuple):
    """One thing to do."""

    kind: str  # MAKE to SETTLE
    edge: object = PARENT  # PARENT, or a child: what is sent to, or came from


@dataclasses.dataclass
class ExchangeProtocol:
    """Base class: what a child does at the moments at which it is due.

    Args:
        rule: of the exchange.
    """

    rule: Rule

    name: ClassVar[str] = ""
    # Whether what has left is answered when the child has gone on.
    answers_later: ClassVar[bool] = False

    @property
    def moments(self) -> tuple[str, ...]:
        """The moments at which exchanges are due, END aside."""
        raise NotImplementedError

    def plan(self, moment: str) -> list[str]:
        """The kinds of all that may have to be done at a moment, in order.

        For whoever lays it down before it is known what is on its way, as a
        graph: of these `on` leaves out what there is nothing for.
        """
        raise NotImplementedError

    def on(
        self, moment: str, clock: int, inbox: Sequence[object] = ()
    ) -> list[Action]:
        """What is to be done now.

        Args:
            moment: GRADIENT, STEP or END; an exchange is due.
            clock: the child's local steps.
            inbox: the edges from which something has arrived.

        Returns:
            Actions, in this order.
        """
        del clock, inbox
        return [Action(kind) for kind in self.plan(moment)]


class Blocking(ExchangeProtocol):
    """The child waits.

    A difference is to the parent as it is read, at the point that the gradient
    was taken at (Algorithm 1). All else is of what the step has led to.
    """

    name = "blocking"

    @property
    def moments(self) -> tuple[str, ...]:
        """See `ExchangeProtocol`."""
        return (GRADIENT,) if self.rule.answers_difference else (STEP,)

    def plan(self, moment: str) -> list[str]:
        """See `ExchangeProtocol`."""
        if moment not in (*self.moments, END):
            return []
        reads = [READ] if self.rule.answers_difference else []
        return [MAKE, *reads, PUSH, SETTLE]


@dataclasses.dataclass
class Overlapped(ExchangeProtocol):
    """What has left is answered while the child goes on."""

    name = "overlapped"
    answers_later = True

    in_flight: bool = False

    @property
    def settles_first(self) -> bool:
        """Whether what leaves is made after the answer was followed.

        A point is; what was done is known before it is answered.
        """
        return self.rule.sends == POINT

    @property
    def moments(self) -> tuple[str, ...]:
        """See `ExchangeProtocol`."""
        return (STEP,)

    def plan(self, moment: str) -> list[str]:
        """See `ExchangeProtocol`."""
        if moment == END:
            return [COLLECT, SETTLE]
        if moment not in self.moments:
            return []
        if self.settles_first:
            return [COLLECT, SETTLE, MAKE, SEND]
        return [MAKE, COLLECT, SETTLE, SEND]

    def on(
        self, moment: str, clock: int, inbox: Sequence[object] = ()
    ) -> list[Action]:
        """See `ExchangeProtocol`."""
        del clock, inbox
        needs_answer = () if self.in_flight else (COLLECT, SETTLE)
        actions = [
            Action(kind)
            for kind in self.plan(moment)
            if kind not in needs_answer
        ]
        if actions or moment == END:
            self.in_flight = moment != END
        return actions


class Synchronous(ExchangeProtocol):
    """All children meet, and wait for each other."""

    name = "synchronous"

    @property
    def moments(self) -> tuple[str, ...]:
        """See `ExchangeProtocol`."""
        return (GRADIENT,) if self.rule.answers_difference else (STEP,)

    def plan(self, moment: str) -> list[str]:
        """See `ExchangeProtocol`."""
        if moment not in (*self.moments, END):
            return []
        return [MAKE, MEET, SETTLE]


@dataclasses.dataclass
class OneWay(ExchangeProtocol):
    """Algorithm 6: where a node is goes up and down; nothing is answered.

    It is asked before every step. What has arrived is followed one after
    another, in its order, as it is then: the Gauss-Seidel form (section 6.1).

    Args:
        rule: of the exchange; it works both ways.
        up_period: local steps between two messages to the parent; None for
            the root, which has none.
        down_period: between two messages to the children; None for a leaf.
        children: by any names.

    Raises:
        ValueError: the rule needs answers, or a period is none.
    """

    name = "one_way"
    order: ClassVar[str] = GAUSS_SEIDEL

    up_period: int | None = None
    down_period: int | None = None
    children: Sequence[object] = ()

    def __post_init__(self) -> None:
        one_way.check_rule(self.rule)
        one_way.check_periods(self.up_period, self.down_period)

    @property
    def moments(self) -> tuple[str, ...]:
        """See `ExchangeProtocol`."""
        return (GRADIENT,)

    def plan(self, moment: str) -> list[str]:
        """See `ExchangeProtocol`."""
        return {GRADIENT: [SEND, SETTLE], END: [SETTLE]}.get(moment, [])

    def on(
        self, moment: str, clock: int, inbox: Sequence[object] = ()
    ) -> list[Action]:
        """See `ExchangeProtocol`."""
        if moment == STEP:
            return []
        actions = []
        if moment == GRADIENT and _divides(self.up_period, clock):
            actions.append(Action(SEND))
        if moment == GRADIENT and _divides(self.down_period, clock):
            actions += [Action(SEND, child) for child in self.children]
        return actions + [Action(SETTLE, edge) for edge in inbox]


def _divides(period: int | None, clock: int) -> bool:
    return period is not None and clock % period == 0


PROTOCOLS: dict[str, type[ExchangeProtocol]] = {
    kind.name: kind for kind in (Overlapped, Blocking, Synchronous, OneWay)
}
