"""The threads of a node in a tree: its own steps, and the way to its parent."""

import statistics

from tf_elastic.cluster import errors
from tf_elastic.cluster.center import below
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.watch import BELOW
from tf_elastic.cluster.watch import STEP_S
from tf_elastic.cluster.watch import TRAINS
from tf_elastic.cluster.worker.edge_threads import EdgeRounds
from tf_elastic.cluster.worker.edge_threads import RoundThreads
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.surroundings import Surroundings

_JOIN_S = 2.0  # until what a node has for its parent is looked at again


class NodeThreads:
    """Lets a node of a tree go on by itself until it is stopped.

    An inner node computes no gradient. Algorithm 6 has its step last as long
    as a leaf's, "just to apply the moving average".

    Args:
        node: that takes part in a tree. It joins its parent as soon as it
            knows of a model, unless it has.
        step_s: seconds of one of its own steps, > 0, as long as its children
            have not told of theirs.
        timeouts: of the way to its parent.
        around: time and threads, the same as the upstream's; None for the
            usual ones.

    Raises:
        ValueError: a step has no length.
    """

    def __init__(
        self,
        node: Node,
        step_s: float,
        timeouts: Timeouts | None = None,
        around: Surroundings | None = None,
    ) -> None:
        if not step_s > 0:
            raise ValueError(
                f"`step_s` must be above 0. Received: step_s={step_s!r}."
            )
        self._node = node
        self._upstream = upstream = node.one_way.upstream
        self._default_s = step_s
        self._timeouts = timeouts or Timeouts()
        self._around = around or Surroundings()
        self._stopped = stopped = self._around.stopped
        self._join_s = self._timeouts.control_s
        rounds = {"steps": self._step}
        if upstream is not None:
            edge = EdgeRounds(upstream, self._timeouts, stopped, self._pass_on)
            rounds.update(edge.by_name(), joins=self._join)
            if node.answered:  # What comes and goes does so in a step.
                del rounds["carry"], rounds["hear"]
            self._join_s = edge.longest_s
        self._threads = RoundThreads(f"center {node.index}", rounds, stopped)

    @property
    def failure(self) -> Exception | None:
        """Why it can't go on."""
        return self._threads.failure

    def start(self) -> None:
        """Begins."""
        self._threads.start()

    def stop(self, finished: bool = False) -> None:
        """Ends all threads, and leaves the parent. Never raises.

        Args:
            finished: whether the node has done its part.
        """
        self._stopped.set()
        if self._upstream is not None:
            self._upstream.leaves.set()  # Nobody is to wait for it.
        self._threads.join(self._join_s + self.step_s)
        if self._upstream is not None:
            self._upstream.leave(finished, self._timeouts.control_s)

    def is_alive(self) -> bool:
        """Whether all threads live."""
        return self._threads.is_alive()

    @property
    def step_s(self) -> float:
        """How long its own step is: the median of its children's, so far."""
        told = [
            float(member.notes[STEP_S])
            for member in self._node.registry.members_present()
            if STEP_S in member.notes
        ]
        return statistics.median(told) if told else self._default_s

    def _step(self) -> None:
        step_s = self.step_s
        if self._stopped.wait(step_s):
            return
        if self._node.answered:
            self._node.answered.turn()
        else:
            self._node.one_way.turn(step_s)

    def _join(self) -> None:
        """Joins the parent, once; later the way there does by itself."""
        upstream = self._upstream
        there = upstream is None or upstream.joined
        if there or self._node.state.layout is None:
            self._stopped.wait(self._timeouts.heartbeat_s)
            return
        try:
            self._node.above.join(self._around.patience(_JOIN_S))
        except (errors.CenterUnavailableError, *errors.BEGUN_ANEW):
            self._stopped.wait(self._timeouts.heartbeat_s)

    def _pass_on(self) -> None:
        """Down goes what the parent has told, up how the children are."""
        node, upstream = self._node, self._upstream
        if upstream is None:
            return
        upstream.notes = {
            STEP_S: self.step_s,
            TRAINS: below.trains(node.registry.members_present()),
            BELOW: node.below(),
            **(node.answered.notes if node.answered else {}),
        }
        with node.changed:
            upstream.progress(node.one_way.clock, node.registry.total_samples)
            node.above.hear()
            own = node.registry.instruction
        if own.number > upstream.parent.news.instruction.number:
            upstream.instruct(own)
