"""What happens in a virtual cluster, one move after another.

When things happen does not depend on what is learned: so a timeline is made
first, by an engine or of a record, and training replays it. A *move* is one
thing that a worker or the center does. Each worker has room for one message,
its *mail*: first what it sends, then what it is answered.

The same moves serve all protocols, in the order of time:

==============  =======================================================
blocking        a difference: MAKE, READ, APPLY, SETTLING_STEP; all else:
                STEP, MAKE, ARRIVE, SETTLE
of ADMM         ASK, ANSWER, SETTLING_STEP as a period begins, then STEPs; as it
                ends MAKE, ARRIVE, SETTLE
overlapped      STEP, SETTLE and MAKE of a point (of what was done: TURN_OVER),
                then ARRIVE while the worker goes on
synchronous     of all workers MAKE and ADD, then COLLECT; a difference is
                followed in SETTLING_STEP, to all else comes ANSWER, SETTLE
==============  =======================================================

Where nothing takes time an exchange is one move: VISITING_STEP for a
difference, VISIT for all else; unless it is overlapped.

What is left out is DROPped where it would have moved the center. Who waits for
a difference then begins again, by RESTART, before it steps; to all else comes
ANSWER as if it had been taken.
"""

from typing import NamedTuple

# A worker's local step, each one call of its optimizer.
STEP = 0
SETTLING_STEP = 1  # after the gradient it settles by its mail, then steps
VISITING_STEP = 2  # after the gradient it visits the center, then steps
# What is done between steps.
VISIT = 3  # a worker and the center move by each other
MAKE = 4  # mail = its message; an increment counts from here if overlapped
TURN_OVER = 5  # it settles by its mail, which is then what was done before
READ = 6  # mail = the message's delta to the center as it is now
APPLY = 7  # the center moves by the delta in the mail
ARRIVE = 8  # READ and APPLY at once; mail = the answer
ADD = 9  # mail = its delta, which adds to the sum of a round
COLLECT = 10  # the center moves by the sum of `count` messages; it is empty
ANSWER = 11  # mail = the point to go on from
SETTLE = 12  # the worker does what the rule says about its mail
RESTART = 13  # too late: it begins at the center, with no velocity
# A new life: it begins at the center, its slots at their first, its calls as
# `clock` says: in a record that may be before where it was.
JOIN = 14
DROP = 15  # its mail is lost, or left out
DIE = 16  # nothing of it counts any more
ASK = 17  # it waits for the point to go on from

NAMES = (
    *("step", "settling_step", "visiting_step"),
    *("visit", "make", "turn_over", "read", "apply", "arrive", "add"),
    *("collect", "answer", "settle", "restart", "join", "drop", "die"),
    "ask",
)
STEPS = (STEP, SETTLING_STEP, VISITING_STEP)
# What there may be between steps, by protocol.
_ALWAYS = (RESTART, JOIN, DROP, DIE)
KINDS = {
    "blocking": frozenset(
        (*_ALWAYS, VISIT, MAKE, READ, APPLY, ARRIVE, ASK, ANSWER, SETTLE)
    ),
    "overlapped": frozenset(
        (*_ALWAYS, MAKE, TURN_OVER, ARRIVE, SETTLE, ANSWER)
    ),
    "synchronous": frozenset(
        (*_ALWAYS, MAKE, READ, ADD, COLLECT, ANSWER, SETTLE)
    ),
}
# By these a worker's point moves, between its steps.
MOVING = (VISIT, TURN_OVER, SETTLE, RESTART, JOIN)
# By these the center's version grows by one.
UPDATES = (VISITING_STEP, VISIT, APPLY, ARRIVE, COLLECT)


class Move(NamedTuple):
    """One thing that is done."""

    time: float  # s, since the beginning
    kind: int  # STEP to DIE
    worker: int = -1  # from 0; -1: of no single one (COLLECT)
    # The worker's calls of its optimizer, before a step its own among none:
    # the first step has 0. Of a message on its way, as it was made.
    clock: int = 0
    version: int = 0  # updates of the center before this move
    staleness: int = 0  # of them since the worker's read, of UPDATES
    num_workers: int = 1  # p, the workers present
    # Messages in the sum, of COLLECT. (A tuple has a `count()`.)
    count: int = 1  # type: ignore[assignment]
