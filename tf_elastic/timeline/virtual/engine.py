"""The engine: what happens in a virtual cluster, in the order of time."""

import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Protocol

from tf_elastic.core import lateness
from tf_elastic.core import rules
from tf_elastic.timeline.virtual.center import Fields
from tf_elastic.timeline.virtual.cluster import Cluster
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.policies import Decisions
from tf_elastic.timeline.virtual.policies import Policy
from tf_elastic.timeline.virtual.timing import Timing
from tf_elastic.timeline.virtual.workload import Workload

# So many are made before they are given, one by one.
_AT_ONCE = 256


class VirtualTimeline:
    """The moves of a cluster that is not there, made by its timing.

    Each call of `moves` begins anew and gives the same. It has no end, unless
    all workers die.

    Args:
        timing: how long things take, and what goes wrong.
        workload: what is exchanged, by which protocol.
        num_workers: p, with those that come late.
        seed: of all that is drawn.
        max_lag: see `core.lateness`; None for no bound.
        quorum: of a synchronous round, how many messages end it; None for
            those of all that are present. The others are left out, and begin
            again from the center.
        max_staleness: a message that is so stale is left out, and its worker
            goes on from the center: R of Ringmaster ASGD, arXiv 2501.16168.
            None for no bound.
        merged: an exchange at a time: no steps are listed but those that an
            exchange is part of. (Of ADMM all are.)
        policy: which exchanges take place, by what is seen of the workers;
            see `timeline.virtual.policies`. Of messages that come one by one.
            None for all that are due.

    Raises:
        ValueError: an argument is out of its range, or does not go with the
            others.

    Example:

    >>> from tf_elastic.core import rules
    >>> timeline = VirtualTimeline(
    ...     Timing(step=1.0), Workload(rules.Elastic(), "blocking"), 2
    ... )
    >>> moves = timeline.moves()
    >>> [(move.time, move.worker) for move, _ in zip(moves, range(4))]
    [(1.0, 0), (1.0, 1), (2.0, 0), (2.0, 1)]
    """

    def __init__(
        self,
        timing: Timing,
        workload: Workload,
        num_workers: int,
        *,
        seed: int = 0,
        max_lag: float | None = None,
        quorum: int | None = None,
        max_staleness: int | None = None,
        merged: bool = False,
        policy: Policy | None = None,
    ) -> None:
        _check_count("num_workers", num_workers)
        workload.check()
        timing.check(num_workers)
        timing.check_nodes(())
        lateness.check_max_lag(max_lag)
        if quorum is not None:
            _check_count("quorum", quorum)
            if workload.protocol != "synchronous" or quorum > num_workers:
                raise ValueError(
                    "`quorum` is of the synchronous protocol, and at most "
                    f"`num_workers`. Received: quorum={quorum}, "
                    f"num_workers={num_workers}, "
                    f"protocol={workload.protocol!r}."
                )
        if max_staleness is not None:
            _check_count("max_staleness", max_staleness)
            if workload.protocol == "synchronous":
                raise ValueError(
                    "`max_staleness` is of messages that come one by one: in "
                    "a synchronous round none is stale. Received: "
                    f"max_staleness={max_staleness}. Give `quorum` instead."
                )
            if workload.takes_steps:
                raise ValueError(
                    "`max_staleness` is of messages whose place the next one "
                    "takes: a part of ADMM's center counts however old it is. "
                    f"Received: max_staleness={max_staleness}. Leave it out."
                )
        if policy is not None:
            _check_policy(policy, workload, merged)
        check_seed(seed)
        self.timing = timing
        self.workload = workload
        self.num_workers = num_workers
        self.seed = seed
        self.max_lag = max_lag
        self.quorum = quorum
        self.max_staleness = max_staleness
        self.merged = merged
        self.decisions = (
            None if policy is None else Decisions(policy, num_workers)
        )

    @property
    def p_varies(self) -> bool:
        """Whether workers come and go."""
        return bool(self.timing.deaths or self.timing.joins)

    @property
    def restarts(self) -> bool:
        """Whether a worker may begin again from the center."""
        bounds = (self.max_lag, self.quorum, self.max_staleness)
        return self.p_varies or any(bound is not None for bound in bounds)

    def moves(self) -> Iterator[Move]:
        """All moves, from the beginning.

        With a policy as far as all steps that are asked about were taken.
        """
        decisions = self.decisions
        cluster = Cluster(
            self.timing,
            self.workload,
            self.num_workers,
            self.seed,
            self.max_lag,
            self.quorum,
            self.max_staleness,
            self.merged,
            None if decisions is None else decisions.from_the_first(),
        )
        return in_parts(cluster, _AT_ONCE if decisions is None else 1)


class Advancing(Protocol):
    """What makes moves, some at a time."""

    moves: list[Fields]  # that were made and not taken yet

    def advance(self, enough: int) -> bool:
        """Makes so many; whether there may be more."""


def in_parts(cluster: Advancing, at_once: int = _AT_ONCE) -> Iterator[Move]:
    """All moves that are made, one by one.

    Args:
        cluster: what makes them.
        at_once: how many are made before the first of them is given.
    """
    return itertools.chain.from_iterable(_parts(cluster, at_once))


def _parts(cluster: Advancing, at_once: int) -> Iterator[Iterator[Move]]:
    made, goes_on = cluster.moves, True
    while goes_on:
        goes_on = cluster.advance(at_once)
        yield map(_move, made)
        made.clear()


# In one call, where a name for each field would take several times as long.
_move: Callable[[tuple[float | int, ...]], Move]
_move = functools.partial(tuple.__new__, Move)


def check_seed(seed: object) -> None:
    """Refuses a seed that is none.

    Raises:
        ValueError: it is no integer of at least 0.
    """
    if type(seed) is not int or seed < 0:
        raise ValueError(
            "`seed` must be an integer that is not negative. "
            f"Received: seed={seed!r:.80}."
        )


def _check_policy(policy: Policy, workload: Workload, merged: bool) -> None:
    if not callable(getattr(policy, "exchanges", None)):
        raise ValueError(
            "`policy` must have a method `exchanges`, as of "
            "`timeline.virtual.Policy`. "
            f"Received: policy={policy!r:.80}."
        )
    if workload.protocol == "synchronous":
        raise ValueError(
            "`policy` is of messages that come one by one: in a synchronous "
            "round all wait for each other. Received: "
            f"protocol={workload.protocol!r}. Use another protocol."
        )
    if workload.rule.sends == rules.GRADIENT:
        raise ValueError(
            "`policy` is of workers that move between their exchanges: a "
            "gradient that is not sent is lost. Received: "
            f"rule={workload.rule!r:.80}. Leave it out."
        )
    if workload.takes_steps:
        raise ValueError(
            "`policy` does not go with ADMM, whose steps are a part of its "
            f"exchanges. Received: policy={policy!r:.80}. Leave it out."
        )
    if merged:
        raise ValueError(
            "`policy` looks at each step, and `merged` lists none but those "
            f"of exchanges. Received: merged={merged}. Leave one of them out."
        )


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(
            f"`{name}` must be an integer of at least 1. "
            f"Received: {name}={value!r:.80}."
        )
