"""One step of all replicas, as `strategy.run` builds it."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic.strategies import lent_rows
from tf_elastic.strategies import views


class Step:
    """What is known of a step while it is built, and what it is made of.

    Args:
        trains: whether it is known to be one of training.
        is_keras: whether it is one of `fit`, `evaluate` or `predict`.
        arguments: of the function that each replica runs, a structure that
            may hold per-replica values.
        num_replicas: how many run it.
        lender: the same structure of the whole batch, where `arguments` is
            one worker's part, which may have no rows.
    """

    def __init__(
        self,
        trains: bool,
        is_keras: bool,
        arguments: Any,
        num_replicas: int,
        lender: Any = None,
    ) -> None:
        self._lender = lender
        self.trains = trains
        self._is_keras = is_keras
        # For each replica the tensors that it has got.
        self.batch = _tensors_of_replicas(arguments, num_replicas)
        self.moved = views.Moved({}, {})
        # Of those that take part, in their order: the optimizer, its
        # exchange, the variables that it trains in this step.
        self.optimizers: list[tuple[Any, Any, list[Any]]] = []
        flat = tf.nest.flatten(arguments)
        self._is_split = any(map(compat.is_per_replica, flat))
        # Whether each replica has rows, from `lend` on; None where that is
        # certain.
        self._has_rows: list[tf.Tensor | None] = [None] * num_replicas
        self._has_lent = False
        self._graph = compat.default_graph()
        # What has to be there, beside the batch, before it is taken.
        self.after: list[tf.Tensor] = []

    @property
    def only_looks(self) -> bool:
        """Whether it is known to train nothing: it evaluates or predicts."""
        return self._is_keras and not self.trains

    @property
    def tensors(self) -> list[tf.Tensor]:
        """All of the batch."""
        return [tensor for of_replica in self.batch for tensor in of_replica]

    def is_of_this_graph(self) -> bool:
        """Whether what is built now is in the step's graph, in no branch."""
        return compat.default_graph() is self._graph

    def num_rows(self) -> tf.Tensor:
        """The rows of the batch, of all replicas; int64 scalar."""
        rows = tf.constant(0, tf.int64)
        for tensors in self.batch if self._is_split else self.batch[:1]:
            for tensor in tensors:
                if tensor.shape.rank:
                    rows += tf.shape(tensor, tf.int64)[0]
                    break
        return rows

    def lend(self, arguments: Any) -> Any:
        """Gives idle replicas a row, before they run; see `lent_rows`.

        Args:
            arguments: of the function that they run, a structure that may
                hold per-replica values.
        """
        if self._has_lent or not (self._is_split or self._lender):
            return arguments
        self._has_lent = True
        # Not of what `run` got: this may be the graph of another function.
        batch = _tensors_of_replicas(arguments, len(self._has_rows))
        self._has_rows = [lent_rows.has_rows(tensors) for tensors in batch]
        if all(flag is None for flag in self._has_rows):
            return arguments
        if self._lender:
            [flag] = self._has_rows
            return lent_rows.lend_to(flag, arguments, self._lender)
        return lent_rows.lend(arguments, self._has_rows)

    def replica_function(self, function: Callable) -> Callable:
        """Makes a function know, in each replica, of which step it is.

        Nothing of it happens before all replicas have their part of the
        batch. (Where data has ended it is asked for in vain: then the step
        is broken off, and what it does not need for, such as counting
        itself, must not have happened.)
        """
        arrived = []
        if compat.default_graph() is self._graph:
            arrived = [*self.tensors, *self.after]

        @tf.autograph.experimental.do_not_convert
        def in_step(*args: Any, **kwargs: Any) -> Any:
            has_rows = self._has_rows[compat.current_replica_id()]
            with (
                views.replica_step(self.trains, has_rows, self.moved),
                tf.control_dependencies(arrived),
            ):
                result = function(*args, **kwargs)
                return lent_rows.take_back(
                    result, has_rows, numbers=not self._is_keras
                )

        return in_step

    def or_idle(self, finite: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Whether each replica's gradients are finite, or of no rows."""
        return [
            ok if has_rows is None else tf.logical_or(ok, ~has_rows)
            for ok, has_rows in zip(finite, self._has_rows, strict=True)
        ]


def _tensors_of_replicas(
    arguments: Any, num_replicas: int
) -> list[list[tf.Tensor]]:
    """The tensors that each replica has got for itself alone.

    If there are none, those that all have got.
    """
    flat = tf.nest.flatten(arguments)
    own = [v for v in flat if compat.is_per_replica(v)]
    return [
        [
            tensor
            for value in own or flat
            for tensor in tf.nest.flatten(
                compat.select_replica(i, value), expand_composites=True
            )
            if isinstance(tensor, tf.Tensor)
        ]
        for i in range(num_replicas)
    ]
