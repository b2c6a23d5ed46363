"""A worker's side of a tree: the edge to its parent, and a look at the root."""

import concurrent.futures
import statistics
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from tf_elastic.cluster import watch
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.launch.cluster_tree import ClusterTree
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.edge_threads import EdgeRounds
from tf_elastic.cluster.worker.edge_threads import RoundThreads
from tf_elastic.cluster.worker.edge_to import edge_to
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.reliable_fanout import Counts
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import News
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import congestion
from tf_elastic.core.protocols import PARENT

_STEPS = 32  # of which the median is told


class LeafClient:
    """A worker's place in a tree, as `CenterClient` is one in a star.

    What it trains towards is its parent; what it shows is the root.

    Args:
        tree: in which this process is a worker.
        security: token and certificates.
        timeouts: how long it waits for what.
        group: which optimizer's center is meant, from 0.
        around: time, network, threads and listeners; None for the usual ones.
    """

    layout: Layout  # of the model, as soon as it is known

    def __init__(
        self,
        tree: ClusterTree,
        security: Security | None = None,
        timeouts: Timeouts | None = None,
        group: int = 0,
        around: Surroundings | None = None,
    ) -> None:
        configuration = tree.configuration
        self.tree = tree
        self.place = place = tree.own_place
        self.worker = configuration.worker_index
        self.is_chief = configuration.is_chief
        self.timeouts = timeouts or Timeouts()
        self.barrier_s = self.timeouts.barrier_s  # of no use here
        self.clock = self.samples = 0
        self.notes: dict[str, Any] = {}  # others see them in the status
        self.trains = False
        self.restarts = 0
        self._around = around = around or Surroundings()
        self.events = around.stream(self.worker, group)
        self._told = Instruction()
        self._step_times: deque[float] = deque(maxlen=_STEPS)
        self._stepped_at: float | None = None
        self._leaving = threading.Lock()
        # Only looks, and so has no slot.
        self.root = CenterClient(
            tree.root,
            None,
            self.is_chief,
            configuration.num_workers,
            security,
            timeouts=self.timeouts,
            group=group,
            around=Surroundings(now=around.now, connect=around.connect),
        )
        self.edges = [
            edge_to(
                place.parents[0][shard],
                shard,
                place.number,
                may_begin=self.is_chief,
                most_waiting=tree.most_waiting,
                expected=place.siblings,
                group=group,
                further=[shards[shard] for shards in place.parents[1:]],
                centers=[shards[shard] for shards in place.centers],
                move_s=tree.move_s,
                most_stretch=congestion.DEFAULT_MOST,
                security=security,
                timeouts=self.timeouts,
                around=around,
                events=self.events,
            )
            for shard in range(tree.num_shards)
        ]
        rounds: dict[str, Callable[[], None]] = {}
        for shard, edge in enumerate(self.edges):
            each = EdgeRounds(
                edge, self.timeouts, around.stopped, self._tell_edges
            )
            self._longest_s = each.longest_s
            rounds.update(
                {f"{k} {shard}": do for k, do in each.by_name().items()}
            )
        self._threads = RoundThreads(
            f"worker {self.worker}", rounds, around.stopped
        )
        self._pool = concurrent.futures.ThreadPoolExecutor(
            len(self.edges), thread_name_prefix="parent"
        )
        self._beats = False

    # What is known.

    @property
    def sessions(self) -> list[ShardSession]:
        """With the parent's shards, as of now."""
        return [edge.parent for edge in self.edges]

    @property
    def joined(self) -> bool:
        """Whether this worker has joined its parent."""
        return all(edge.joined for edge in self.edges)

    @property
    def num_workers(self) -> int:
        """p: the leaves of the tree."""
        return self.tree.configuration.num_workers

    @property
    def siblings(self) -> int:
        """D of its parent, itself included, as that one has told."""
        told = [edge.parent.news.num_workers for edge in self.edges]
        known = [count for count in told if count is not None]
        return max(known, default=self.place.siblings)

    @property
    def samples_of_others(self) -> int:
        """Of all other workers, and of this one's earlier processes."""
        edges = max(edge.samples_of_others for edge in self.edges)
        return max(edges, self.root.samples_of_others)

    @property
    def instruction(self) -> Instruction:
        """The chief's newest that was heard, or told."""
        heard = [edge.parent.news.instruction for edge in self.edges]
        return max([self._told, *heard], key=lambda told: told.number)

    @property
    def counts(self) -> Counts:
        """What happened between this worker and its parent so far.

        Exchanges are messages that it has sent; missed are those that newer
        ones have superseded before they left.
        """
        return Counts(
            exchanges=max(edge.sent for edge in self.edges),
            missed=sum(edge.overflowed() for edge in self.edges),
            restarts=self.restarts,
            late=self.restarts,
        )

    @property
    def step_s(self) -> float:
        """How long a step lasts, in seconds; 0 if that is not known yet."""
        times = list(self._step_times)
        return statistics.median(times) if times else 0.0

    def stepped(self, clock: int, samples: int) -> None:
        """Notes that a local step was taken.

        Raises:
            ClusterError: why training cannot go on, if something is.
        """
        self.check()
        now = self._around.now()
        if self._stepped_at is not None:
            self._step_times.append(now - self._stepped_at)
        self._stepped_at = now
        self.trains = True
        self.clock, self.samples = clock, samples

    def check(self) -> None:
        """Raises why training cannot go on, if something is."""
        failure = self._threads.failure
        if failure is not None:
            raise failure

    def _tell_edges(self) -> None:
        notes = {**self.notes, watch.TRAINS: self.trains}
        if self._step_times:
            notes[watch.STEP_S] = self.step_s
        for edge in self.edges:
            edge.notes = watch.finite(notes)
            edge.progress(self.clock, self.samples)

    # Joining and leaving.

    def greet(self, layout: Layout) -> bool:
        """Waits for the root, and hears what there is to know.

        Returns:
            Whether it has parameters; who is not the chief waits for them.

        Raises:
            CenterUnavailableError, CenterRefusedError: as `CenterClient`'s.
        """
        return self.root.greet(layout)

    def join(self, layout: Layout, values: Arrays) -> Arrays:
        """Joins the parent's shards; waits for them.

        Args:
            layout: of the model.
            values: the worker's, one array for each section.

        Returns:
            Where the parent is. If the tree was empty and this is the chief,
            it begins with `values`. `clock` is that of the worker's process
            before this one.

        Raises:
            CenterUnavailableError: a shard was not there in time.
            CenterRefusedError: one is of another model.
        """
        self.layout = layout
        center = layout.empty()
        patience = self._around.patience(self.timeouts.join_s)
        if self._around.beats and not self._beats:
            self._beats = True
            self._threads.start()

        def join(shard: int) -> None:
            came = self.edges[shard].join(
                layout, layout.parts(values, shard), patience
            )
            _put(layout.parts(center, shard), came)

        self._of_each(join)
        if self.is_chief:  # What it has given goes up by itself.
            while not (patience.is_over() or self.root.greet(layout)):
                patience.pause()
        before = [session.clock_before for session in self.sessions]
        self.clock = max(self.clock, *before)
        return center

    def begin(self) -> Arrays:
        """Reads the parent once more, for a worker that has taken no step.

        What has come from it meanwhile is older.
        """
        center = self.layout.empty()

        def read(shard: int) -> None:
            edge = self.edges[shard]
            edge.inbox.forget(PARENT)
            _put(self.layout.parts(center, shard), edge.read())

        self._of_each(read)
        return center

    def _of_each(self, do: Callable[[int], None]) -> None:
        futures = [
            self._pool.submit(do, shard) for shard in range(len(self.edges))
        ]
        concurrent.futures.wait(futures)
        for future in futures:
            future.result()

    def signal(self) -> None:
        """A sign of life at once, not when its time has come."""
        self._tell_edges()
        self._of_each(lambda shard: self.edges[shard].beat())

    def flush(self, seconds: float) -> bool:
        """Waits until all that was put has left.

        Args:
            seconds: how long at most.

        Returns:
            Whether it has.
        """
        patience = self._around.patience(seconds)
        while any(edge.waits for edge in self.edges):
            if patience.is_over() or self._threads.failure:
                return False
            patience.pause()
        return True

    def leave(self, finished: bool = False) -> None:
        """Gives the slot back, and closes everything. Never raises.

        Args:
            finished: whether this worker has done its part.
        """
        with self._leaving:
            if self._around.stopped.is_set():
                return
            self._around.stopped.set()
        for edge in self.edges:
            edge.leaves.set()  # Nobody is to wait for it.
            if not finished:
                edge.parent.connection.break_off()
        patience_s = self.timeouts.control_s
        if self._beats:
            self._threads.join(self._longest_s if finished else 0.7)
        self.trains = False
        self._tell_edges()
        for edge in self.edges:
            edge.leave(finished, patience_s if finished else 0.7)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.root.leave(finished)

    # Looking, and telling.

    def look(self, layout: Layout) -> Arrays:
        """Reads the root; for errors see `CenterClient`."""
        return self.root.look(layout)

    def status(self, staleness_since: int = 0) -> list[News | None]:
        """The status of each shard of the root; None for one that is away."""
        return self.root.status(staleness_since)

    def wait_for_others(self, seconds: float) -> list[int]:
        """Waits until nobody below the root is in the midst of training."""
        return self.root.wait_for_others(seconds)

    def instruct(
        self,
        stop: bool,
        learning_rate: float | None,
        instead_of: float | None,
    ) -> None:
        """As the chief, tells all workers what to do; see `Instruction`."""
        number = self.instruction.number + 1
        self._told = told = Instruction(number, stop, learning_rate, instead_of)
        self._of_each(lambda shard: self.edges[shard].instruct(told))

    def tell_rates(self, elastic: Mapping[str, float | None]) -> None:
        """Notes by what the optimizer has all nodes move."""
        for edge in self.edges:
            edge.elastic = elastic
            if self._step_times:
                edge.notes = {**edge.notes, watch.STEP_S: self.step_s}


def _put(parts: Arrays, came: Arrays) -> None:
    for part, values in zip(parts, came, strict=True):
        part[...] = values
