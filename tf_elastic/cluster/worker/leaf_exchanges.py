"""A worker's one-way exchanges with its parent: Algorithm 6 at a leaf.

They are after a local step, with the clock as it is then: what is due leaves,
then what has arrived is followed. That is the head of the algorithm's loop,
before the next gradient.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from tf_elastic.cluster.edge_queues import Waiting
from tf_elastic.cluster.worker.leaf_client import LeafClient
from tf_elastic.cluster.worker.moved import NOTHING
from tf_elastic.cluster.worker.moved import RESTART
from tf_elastic.cluster.worker.moved import TAKE
from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.core import one_way
from tf_elastic.core import protocols
from tf_elastic.core.protocols import PARENT
from tf_elastic.core.protocols import OneWay
from tf_elastic.core.rules import Rates
from tf_elastic.core.rules import Rule
from tf_elastic.timeline import event as happened

# Of (p, the worker's clock, numbers of the moment).
RatesOf = Callable[[int, int, Sequence[float]], Rates]


class LeafExchanges:
    """What leaves a leaf when, and what it is to follow.

    Args:
        client: the worker's side of the tree, joined.
        rule: of the exchange, which works both ways.
        rates: of the optimizer: alpha and beta for p workers.

    Raises:
        ValueError: the rule needs answers.
    """

    in_flight = False  # nothing is answered

    def __init__(self, client: LeafClient, rule: Rule, rates: RatesOf) -> None:
        self.client = client
        self._protocol = OneWay(rule, client.place.up_period)
        self._rates = rates
        self._sent_at: int | None = None  # the worker's clock, when it sent
        self._first: tuple[Moment, Sequence[np.ndarray]] = Moment(0, 0), []
        self._due: list[int] = []  # shards that are to be sent to

    def follow_rates(self, rates: RatesOf) -> None:
        """Takes the rates, and the clock, of another optimizer from now on."""
        self._rates = rates
        self._sent_at = None

    def begins(self, moment: Moment, values: Sequence[np.ndarray]) -> None:
        """The worker is where its parent was.

        Args:
            moment: its clock.
            values: where it is, one array for each section.
        """
        self.client.clock = moment.clock
        self._tell_rates(moment)
        self.client.events.tell(
            happened.START,
            incarnation=self.client.sessions[0].incarnation,
            step_applied=moment.clock,
            version_read=self.client.sessions[0].version_read,
            settings={
                "protocol": self._protocol.name,
                "rule": self.client.layout.rule.config(),
                "compression": "none",
                "model": self.client.layout.fingerprint,
                "most_waiting": self.client.tree.most_waiting,
            },
        )
        self._first = moment, values

    def first_leaves(self) -> None:
        """The first step begins: where the worker is leaves, if it is due."""
        moment, values = self._first
        if self._is_due(moment.clock):
            self.send(moment, values)
        self._sent_at = moment.clock  # Others have it anyway.

    def begin(self, moment: Moment) -> Moved:
        """Where to begin, for a worker that has taken no step yet."""
        center = self.client.begin()
        self.begins(moment, center)
        return Moved(RESTART, center)

    def _is_due(self, clock: int) -> bool:
        """Whether something leaves at a clock; notes to which shards."""
        place, self._due = self.client.place, []
        for shard, edge in enumerate(self.client.edges):
            period = self._period(shard) * edge.speed.factor
            self._protocol.up_period = period
            actions = self._protocol.on(protocols.GRADIENT, clock)
            if place.up_period and actions:
                self._due.append(shard)
        return bool(self._due)

    def _period(self, shard: int) -> int:
        """Between two messages, as it is set where the worker is now."""
        place, moves = self.client.place, self.client.edges[shard].moves
        further = place.further_periods
        if not moves or not further:
            return place.up_period or 1
        return further[min(moves, len(further)) - 1]

    def stepped(self, moment: Moment) -> tuple[bool, int]:
        """Notes a local step, and says what there is to do.

        Args:
            moment: the worker's clock, the step included.

        Returns:
            Whether a message leaves, which is to be given to `send`; and how
            often something is then to be taken.

        Raises:
            ClusterError: why training cannot go on, if something is.
        """
        self.client.stepped(moment.clock, moment.samples)
        waiting = [len(edge.inbox.edges()) for edge in self.client.edges]
        return self._is_due(moment.clock), max(waiting)

    def has_something(self, moment: Moment) -> bool:
        """Whether the worker has taken a step since it sent."""
        return moment.clock != self._sent_at

    def send(
        self,
        moment: Moment,
        values: Sequence[np.ndarray],
        everywhere: bool = False,
    ) -> None:
        """Lets a message leave; returns at once.

        Args:
            moment: the worker's clock.
            values: where it is, one array for each section; copied.
            everywhere: whether to all shards, or to those that are due.
        """
        self._tell_rates(moment)
        self._sent_at = moment.clock
        step_s, layout = self.client.step_s, self.client.layout
        for shard, edge in enumerate(self.client.edges):
            if not (everywhere or shard in self._due):
                continue
            parts = [p.copy() for p in layout.parts(list(values), shard)]
            period_s = self._period(shard) * step_s
            edge.put(parts, moment.clock, moment.samples, period_s)

    def take(self, moment: Moment) -> Moved:
        """The oldest message of each shard that has arrived.

        Returns:
            TAKE: the points to move to by `moving_rate`; RESTART: those to
            begin again from. NaN where nothing has come.
        """
        came: dict[int, Waiting] = {}
        for shard, edge in enumerate(self.client.edges):
            if not edge.inbox.edges():
                continue
            waiting = edge.inbox.take(PARENT)
            edge.followed = waiting.parents
            came[shard] = waiting
        if not came:
            return Moved(NOTHING)
        whole = self._whole({k: each.values for k, each in came.items()})
        if any(waiting.restart for waiting in came.values()):
            self.client.restarts += 1
            self._tell(came, moment.clock)
            return Moved(RESTART, whole)
        rate = one_way.node_rate(self.client.siblings, **self._elastic(moment))
        self._tell(came, moment.clock, rate)
        return Moved(TAKE, whole, rate)

    def _tell(
        self, came: dict[int, Waiting], clock: int, rate: float | None = None
    ) -> None:
        for shard, waiting in came.items():
            self.client.edges[shard].events.follows(waiting, clock, rate)

    def _whole(self, came: dict[int, Arrays]) -> Arrays:
        """All sections, of what has come of some shards."""
        if len(came) == len(self.client.edges) == 1:
            return came[0]
        layout = self.client.layout
        whole = layout.empty()
        for shard in range(len(self.client.edges)):
            for k, part in enumerate(layout.parts(whole, shard)):
                part[...] = came[shard][k] if shard in came else np.nan
        return whole

    def _tell_rates(self, moment: Moment) -> None:
        self.client.tell_rates(self._elastic(moment))

    def _elastic(self, moment: Moment) -> dict[str, float | None]:
        """The optimizer's alpha, if it was given, and beta if it was not."""
        return one_way.told_by(
            lambda p: self._rates(p, moment.clock, moment.numbers)
        )

    def ends(self, clock: int) -> None:
        """Notes that training is over for now, after so many local steps."""
        self.client.events.tell(
            happened.END,
            incarnation=self.client.sessions[0].incarnation,
            step_applied=clock,
        )

    def stop(self, finished: bool = False) -> None:
        """Leaves the tree. Never raises.

        Args:
            finished: whether this worker has done its part.
        """
        self.client.leave(finished)
