"""A worker's side of a tree in which messages are answered."""

from typing import Any

from tf_elastic.cluster import watch
from tf_elastic.cluster.launch.cluster_tree import ClusterTree
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import News
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core.rules import Rates


class AnsweredClient(CenterClient):
    """What a worker exchanges with is its parent; what it shows is the root.

    Args:
        tree: in which this process is a worker.
        security: token and certificates.
        timeouts: how long it waits for what.
        group: which optimizer's center is meant, from 0.
        around: time, network, threads and listeners.
    """

    def __init__(
        self,
        tree: ClusterTree,
        security: Security | None,
        timeouts: Timeouts | None,
        group: int,
        around: Surroundings,
    ) -> None:
        configuration = tree.configuration
        self.place = tree.own_place
        self._begun: tuple[int, float] | None = None
        self._elastic: dict[str, float] = {}
        super().__init__(
            self.place.parents[0],
            configuration.worker_index,
            configuration.is_chief,
            self.place.siblings,
            security,
            timeouts=timeouts,
            group=group,
            around=around,
        )
        self.root = CenterClient(
            tree.root,
            None,
            configuration.is_chief,
            configuration.num_workers,
            security,
            timeouts=timeouts,
            group=group,
            around=Surroundings(now=around.now, connect=around.connect),
        )

    def tell_rates(self, two: Rates, three: Rates) -> None:
        """Notes by what the optimizer has all nodes move.

        Args:
            two: the rates of a node with 2 children.
            three: with 3; alpha is the same where it was given.
        """
        alpha = float(two["moving_rate"] or 0.0)
        if alpha == float(three["moving_rate"] or 0.0):
            self._elastic = {watch.MOVING_RATE: alpha}
        else:
            self._elastic = {watch.BETA: 3 * alpha}

    def _progress(self) -> dict[str, Any]:
        """Signs of life tell the parent how long a step is, too."""
        now = self._around.now()
        if self._begun is None or self.clock < self._begun[0]:
            self._begun = self.clock, now
        clock, since = self._begun
        if self.clock > clock:
            step_s = (now - since) / (self.clock - clock)
            self.notes = {**self.notes, watch.STEP_S: step_s}
        progress = super()._progress()
        return {**progress, "notes": {**progress["notes"], **self._elastic}}

    def greet(self, layout: Layout) -> bool:
        """Waits for the root; see `CenterClient`."""
        return self.root.greet(layout)

    def join(self, layout: Layout, values: Arrays) -> Arrays:
        """Joins the parent, the chief's values on their way to the root."""
        center = super().join(layout, values)
        patience = self._around.patience(self.timeouts.join_s)
        while self.is_chief and not (
            patience.is_over() or self.root.greet(layout)
        ):
            patience.pause()
        return center

    def look(self, layout: Layout) -> Arrays:
        """Reads the root; for errors see `CenterClient`."""
        self._is_of(layout)
        return self.root.look(layout)

    def status(self, staleness_since: int = 0) -> list[News | None]:
        """The status of each shard of the root; None for one that is away."""
        return self.root.status(staleness_since)

    @property
    def samples_of_others(self) -> int:
        """And of this worker's earlier processes, as far as was heard."""
        here = max(s.news.samples_of_others for s in self.sessions)
        return max(here, self.root.samples_of_others)

    def leave(self, finished: bool = False) -> None:
        """Gives the slots back, and closes everything. Never raises."""
        super().leave(finished)
        self.root.leave(finished)
