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

In a tree points go one way, each in a *row* of its own, from SEND until all
that it was for have followed it. Who waits for an answer gets it likewise, in
the same row:

==============  =======================================================
one way         a worker STEPs, SENDs and FOLLOWs; inner nodes NODE_UP,
                NODE_DOWN and follow; the root ROOT_DOWN and follows
answered        STEP, SEND, NODE_FROM_CHILD, NODE_DOWN, FOLLOW; so does a node
                with its parent
accumulated     the same; a node's NODE_UP, up to NODE_FROM_PARENT, is while its
                workers go on, and NODE_FROM_PARENT merges
synchronous     STEP, SEND, of all children NODE_ADD, then NODE_COLLECT; now and
                then NODE_UP, ROOT_ADD, ROOT_COLLECT, ROOT_DOWN,
                NODE_FROM_PARENT; NODE_DOWN, FOLLOW
==============  =======================================================

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

# In a tree. A point goes into a row:
SEND = 18  # a worker's, to its parent
NODE_UP = 19  # an inner node's, to its parent
NODE_DOWN = 20  # an inner node's, to `count` children
ROOT_DOWN = 21  # the root's
# A node moves by the point in a row, after its own step.
FOLLOW = 22  # a worker by its parent's
NODE_FROM_PARENT = 23  # an inner node by its parent's
NODE_FROM_CHILD = 24  # an inner node by a child's
ROOT_FROM_CHILD = 25  # the root by a child's
# Of more than may wait on an edge the oldest is lost, and all of a worker that
# dies; `worker` is the edge's child, `count` 1 on the way up, 0 on that down.
NOT_SENT = 26  # before it has left
NOT_SEEN = 27  # after it has arrived
# A meeting of a node's children; `count` workers are below whom it is of.
NODE_ADD = 28  # a child's point adds to the sum of a node
ROOT_ADD = 29  # likewise of the root
NODE_COLLECT = 30  # an inner node moves by its sum, which is empty
ROOT_COLLECT = 31  # the root does
# Inner nodes of trees.
NODE_DIE = 32  # nothing of it counts any more
NODE_JOIN = 33  # a new life, which begins where its parent, `count`, is
ATTACH = 34  # a node is a child of another parent, `count`, from now on

NAMES = (
    *("step", "settling_step", "visiting_step"),
    *("visit", "make", "turn_over", "read", "apply", "arrive", "add"),
    *("collect", "answer", "settle", "restart", "join", "drop", "die"),
    "ask",
    *("send", "node_up", "node_down", "root_down"),
    *("follow", "node_from_parent", "node_from_child", "root_from_child"),
    *("not_sent", "not_seen"),
    *("node_add", "root_add", "node_collect", "root_collect"),
    *("node_die", "node_join", "attach"),
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
    "tree": frozenset(
        (JOIN, DIE, *range(SEND, NOT_SEEN + 1), *range(NODE_DIE, ATTACH + 1))
    ),
    "synchronous_tree": frozenset(
        (
            *(SEND, NODE_UP, NODE_DOWN, ROOT_DOWN, FOLLOW, NODE_FROM_PARENT),
            *(NODE_ADD, ROOT_ADD, NODE_COLLECT, ROOT_COLLECT),
        )
    ),
}
# By these a worker's point moves, between its steps.
MOVING = (VISIT, TURN_OVER, SETTLE, RESTART, JOIN, FOLLOW)
# By these the center's version grows by one.
UPDATES = (
    *(VISITING_STEP, VISIT, APPLY, ARRIVE, COLLECT),
    *(ROOT_FROM_CHILD, ROOT_COLLECT),
)


class Move(NamedTuple):
    """One thing that is done."""

    time: float  # s, since the beginning
    kind: int  # STEP to ATTACH
    # From 0; -1: of no single one (COLLECT). In a tree inner nodes come after
    # the workers, and the root last; see `Nodes`.
    worker: int = -1
    # The worker's calls of its optimizer, before a step its own among none:
    # the first step has 0. Of a message on its way, as it was made. An inner
    # node's own steps are counted as if it were a worker.
    clock: int = 0
    # Updates of the center before this move; of an inner node its own.
    version: int = 0
    # Of them since the worker's read, of UPDATES; in a tree since the child
    # was told, or the point that is followed has left.
    staleness: int = 0
    num_workers: int = 1  # p, the workers present
    # Messages in the sum, of COLLECT. In a tree see above; of NODE_FROM_CHILD
    # and ROOT_FROM_CHILD which child. (A tuple has a `count()`.)
    count: int = 1  # type: ignore[assignment]
    row: int = -1  # that a point is in, in a tree
