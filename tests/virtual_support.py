"""Short timelines of a virtual cluster, and what they have to keep."""

import collections
import itertools

from tf_elastic.core import rules
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import VirtualTimeline
from tf_elastic.timeline.virtual import Workload
from tf_elastic.timeline.virtual import moves as kinds

ELASTIC = rules.Elastic()  # a point, answered by a difference
ADD = rules.Add()  # an increment
GRADIENT = rules.HeavyBall()
MEAN = rules.Mean()  # a point, answered by a point


def workload(rule=ELASTIC, protocol="blocking", period=1, **others):
    """A workload whose phase is as the strategy has it."""
    load = Workload(rule, protocol, period, 0, **others)
    return load._replace(phase=0 if load.is_before else period - 1)


def timeline(timing, p=3, **options):
    """Of `workload`'s options and those of `VirtualTimeline`."""
    own = ("seed", "max_lag", "quorum", "max_staleness", "merged")
    engine = {name: options.pop(name) for name in own if name in options}
    if not isinstance(timing, Timing):
        timing = Timing(timing)
    return VirtualTimeline(timing, workload(**options), p, **engine)


def first(made, count):
    """So many moves of a timeline, or all if it ends."""
    return list(itertools.islice(made.moves(), count))


def told(moves):
    """ "step 0" of each."""
    return [f"{kinds.NAMES[move.kind]} {move.worker}" for move in moves]


def check(moves, num_workers, forgets=False):
    """Refuses moves that no cluster could make.

    With `forgets` a new life may begin before the end of the one before it.

    Times do not go back, versions grow by one, clocks by one with each step of
    a worker, nothing is done by the dead, a message is used once, and a worker
    that waits for an answer takes no step.
    """
    time, version = 0.0, 0
    clocks = collections.Counter()
    mail = [None] * num_workers  # "message", "read", "there", "answer"
    alive = {move.worker for move in moves} - {-1}
    alive -= {m.worker for m in first_of_each(moves) if m.kind == kinds.JOIN}
    for move in moves:
        who = move.worker
        assert move.time >= time, move
        time = move.time
        assert move.version == version, move
        version += move.kind in kinds.UPDATES
        assert 0 <= move.staleness <= move.version, move
        if who < 0:
            assert move.kind == kinds.COLLECT
            continue
        if move.kind == kinds.JOIN:
            assert who not in alive
            alive.add(who)
            mail[who] = None
            if forgets:
                assert move.clock <= clocks[who], move
                clocks[who] = move.clock
        assert who in alive, move
        if move.kind in (kinds.ARRIVE, kinds.DROP, kinds.ANSWER):
            # As it was made.
            assert move.clock <= clocks[who], move
        else:
            assert move.clock == clocks[who], move
        if move.kind in kinds.STEPS:
            clocks[who] += 1
        if move.kind == kinds.DIE:
            alive.remove(who)
        before, after = MAIL.get(move.kind, (ANY, None))
        assert mail[who] in before, (move, mail[who])
        if move.kind in MAIL:
            mail[who] = after
    return clocks


ANY = (None, "message", "read", "answer", "added")
# What a worker's mail is before and after a move; one that overlaps may step
# with mail on its way.
MAIL = {
    kinds.MAKE: ((None,), "message"),
    kinds.TURN_OVER: (("answer",), "message"),
    kinds.READ: (("message",), "read"),
    kinds.APPLY: (("read",), "answer"),
    kinds.ARRIVE: (("message",), "answer"),
    kinds.ADD: (("message",), "added"),
    kinds.ANSWER: (("added", None), "answer"),  # None: it was left out.
    kinds.SETTLE: (("answer",), None),
    kinds.SETTLING_STEP: (("answer", "added"), None),
    kinds.VISIT: ((None,), None),
    kinds.VISITING_STEP: ((None,), None),
    kinds.DROP: ((None, "message", "read", "answer"), None),
    kinds.RESTART: ((None, "added", "answer"), None),
    kinds.DIE: (ANY, None),
}


def first_of_each(moves):
    """The first move of each worker."""
    seen = {}
    for move in moves:
        seen.setdefault(move.worker, move)
    return seen.values()
