"""The threads of a node in a tree: its own steps, and the way to its parent."""

import threading
from collections.abc import Callable

from absl import logging

from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.surroundings import Surroundings

_LISTEN_S = 1.0


class NodeThreads:
    """Lets a node of a tree go on by itself until it is stopped.

    An inner node computes no gradient. Algorithm 6 has its step last as long
    as a leaf's, "just to apply the moving average".

    Args:
        node: that takes part in a tree, and has joined its parent.
        step_s: seconds of one of its own steps, > 0.
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
        self.failure: Exception | None = None  # why it can't go on
        self._node = node
        self._upstream = node.one_way.upstream
        self._step_s = step_s
        self._timeouts = timeouts or Timeouts()
        self._stopped = (around or Surroundings()).stopped
        rounds: dict[str, Callable[[], None]] = {"steps": self._step}
        if self._upstream is not None:
            rounds.update(carry=self._carry, hear=self._hear, beat=self._beat)
        self._threads = [
            threading.Thread(
                target=self._repeat,
                args=(do,),
                name=f"node-{name}",
                daemon=True,
            )
            for name, do in rounds.items()
        ]

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def stop(self, finished: bool = False) -> None:
        """Ends all threads, and leaves the parent. Never raises.

        Args:
            finished: whether the node has done its part.
        """
        self._stopped.set()
        patience_s = self._timeouts.control_s
        if self._upstream is not None:
            self._upstream.leaves.set()  # Nobody is to wait for it.
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_LISTEN_S + patience_s)
        if self._upstream is not None:
            self._upstream.leave(finished, patience_s)

    def is_alive(self) -> bool:
        """Whether all threads live."""
        return all(thread.is_alive() for thread in self._threads)

    def _repeat(self, do: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                do()
            except Exception as error:
                self.failure = error
                logging.error("center %d: %s.", self._node.index, error)
                return

    def _step(self) -> None:
        if not self._stopped.wait(self._step_s):
            self._node.one_way.turn()

    def _carry(self) -> None:
        upstream = self._upstream
        if upstream is None or upstream.is_away:
            self._stopped.wait(self._timeouts.heartbeat_s)
        elif not upstream.carry():
            upstream.leaves.wait(self._timeouts.heartbeat_s)

    def _hear(self) -> None:
        upstream = self._upstream
        if upstream is None or upstream.is_away:
            self._stopped.wait(self._timeouts.heartbeat_s)
        else:
            upstream.hear(_LISTEN_S)

    def _beat(self) -> None:
        if not self._stopped.wait(self._timeouts.heartbeat_s):
            if self._upstream is not None:
                self._upstream.beat()
