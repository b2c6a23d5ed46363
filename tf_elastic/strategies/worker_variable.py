"""Variables of which every worker has its own copy.

========================  ==================  ===============  ==============
variable                  replica, training   replica, else    cross-replica
========================  ==================  ===============  ==============
`ElasticVariable`         worker's copy       center           center
`WorkerVariable`          worker's copy       worker's copy    first worker's
========================  ==================  ===============  ==============

A model's floating variables are elastic. Its others (counters, seeds), of
which no mean can be taken, and an optimizer's slots and clocks are a worker's
own. A cross-replica assignment sets every copy, so that all workers start from
the value assigned.

A variable that was made with a `tf.VariableAggregation`, and that no optimizer
of the package trains, is nobody's own: what replicas assign to it is put
together as asked for, and set on every copy.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.strategies import checkpoints
from tf_elastic.strategies import views
from tf_elastic.strategies.resuming import Resumption
from tf_elastic.strategies.resuming import cast
from tf_elastic.strategies.resuming import is_same
from tf_elastic.strategies.stores import TensorLike
from tf_elastic.strategies.stores import WorkerStore


class WorkerVariable(compat.MirroredVariable):
    """Each worker has a value of its own, and there is no center.

    Outside of replicas it reads as the first worker's.

    Args:
        strategy: whose variable it is.
        store: where the workers' values are.
        of_model: whether it is a model's variable, not an optimizer's.
        aggregation: of what replicas assign.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        store: WorkerStore,
        of_model: bool = False,
        aggregation: tf.VariableAggregation = tf.VariableAggregation.NONE,
    ) -> None:
        self._of_model = of_model
        self._follows = False  # another one, which it begins anew with
        self._was_set = False  # from outside, as the layer does that loads it
        self._resumption: Resumption | None = None
        self._store = store
        super().__init__(strategy, store.shown, aggregation)

    @property
    def store(self) -> WorkerStore:
        """Where the workers' values are."""
        return self._store

    def worker_values(self) -> np.ndarray:
        """The workers' values, shape (p, ...), in eager code."""
        return np.stack([value.numpy() for value in self._store.values()])

    def assign_worker_values(
        self, values: Sequence[TensorLike] | np.ndarray
    ) -> None:
        """Sets each worker to its own value, in eager code.

        Args:
            values: p arrays of this variable's shape.
        """
        workers = range(self._store.num_workers)
        for worker, value in zip(workers, values, strict=True):
            self._store.assign(worker, value)

    @property
    def follows(self) -> bool:
        """Whether it begins anew with a model's variable."""
        return self._follows

    def follow(self) -> None:
        """Tells it that it begins anew with a model's variable."""
        self._follows = True

    @property
    def followers(self) -> list["WorkerVariable"]:
        """What an optimizer remembers of it, which begins anew with it."""
        return []

    def resume(
        self,
        center: np.ndarray,
        workers: np.ndarray,
        followers: Sequence[
            tuple[Callable[[np.ndarray], object], np.ndarray]
        ] = (),
    ) -> None:
        """Sets the workers as a file has them, in eager code.

        Where the variable was set to another value than the file's, they wait
        until it is set to the file's: see `resuming`.

        Args:
            center: what the variable read when the file was written.
            workers: the workers' values, shape (p, ...).
            followers: what begins anew with it: how to set it, and to what.
        """
        resumption = Resumption(
            cast(center, self.dtype), cast(workers, self.dtype), followers
        )
        self._resumption = None
        if not self._was_set and not self._reads_as(resumption.center):
            self._set_all(resumption.center)
        if self._reads_as(resumption.center):
            resumption.take(self)
        else:
            self._resumption = resumption._replace(instead_of=self.numpy())

    def __float__(self) -> float:
        return float(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def assign(
        self,
        value: TensorLike,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Sets the copies that the present context means.

        Outside of replicas these are all copies, unless a model's variable
        reads as this value already: then nothing changes. (A file is loaded
        through the layers, which hold what is read, and through the
        optimizer, which holds the workers, in either order; the second must
        not undo the first.) Workers that wait for this value get theirs.
        """
        if not (
            self._of_model
            and tf.executing_eagerly()
            and compat.current_replica_id() is None
        ):
            return self._set_all(value, use_locking, name, read_value)
        self._was_set = True
        resumption, self._resumption = self._resumption, None
        if self._reads_as(value):
            return self
        if resumption is not None and not (
            is_same(value, resumption.center)
            and self._reads_as(resumption.instead_of)
        ):
            resumption = None
        result = self._set_all(value, use_locking, name, read_value)
        if resumption is not None:
            resumption.take(self)
        return result

    def _set_all(self, value: TensorLike, *args: Any) -> Any:
        return super().assign(value, *args)

    def _reads_as(self, value: TensorLike) -> bool:
        """Whether all have this value already, or differ from it in order.

        A worker that is not finite is not in order.
        """
        return is_same(value, self._values[0].numpy()) and (
            not self.dtype.is_floating
            or all(
                bool(tf.reduce_all(tf.math.is_finite(value)))
                for value in self._store.values()
            )
        )

    def _update_replica(
        self, update_fn: Callable[..., Any], value: TensorLike, **kwargs: Any
    ) -> Any:
        if not self._of_model:
            return super()._update_replica(update_fn, value, **kwargs)
        views.note_moved(self)
        if self._is_aggregated():
            # A tensor of its own in each replica, also of a plain number.
            value = tf.identity(tf.cast(value, self.dtype))
            return super()._update_replica(update_fn, value, **kwargs)
        copy = self._store.live[compat.current_replica_id()]
        return update_if_rows(update_fn, copy, value, **kwargs)

    def _update_cross_replica(
        self, update_fn: Callable[..., Any], value: TensorLike, **kwargs: Any
    ) -> Any:
        self._store.update_all(
            lambda i, copy: update_fn(
                copy, compat.select_replica(i, value), **kwargs
            )
        )
        return self

    def _is_aggregated(self) -> bool:
        return self.aggregation != tf.VariableAggregation.NONE

    def _gather_saveables_for_checkpoint(self) -> dict[str, Any]:
        # `tf.train.Checkpoint` and exports ask `_serialize_to_tensors`.
        raise RuntimeError(
            "TensorFlow 1's `init_from_checkpoint` knows of one copy of a "
            "variable; the workers would be left out. Received: "
            f"variable={self.name!r} of "
            f"{type(self.distribute_strategy).__name__}. Use "
            "`tf.train.Checkpoint`, or "
            "`variable.assign(tf.train.load_variable(path, name))`."
        )

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        tensors = {checkpoints.VALUE_KEY: tf.identity(self._values[0])}
        if not compat.is_exporting():
            keys = checkpoints.worker_keys(self._store.num_workers)
            master = [checkpoints.MASTER_KEY] if self._store.masters else []
            for key in checkpoints.keys_to_restore(keys, master):
                tensors[key] = (
                    self._store.read(keys.index(key))
                    if key in keys
                    else self._store.read_center(0)
                )
        return tensors

    def _restore_from_tensors(
        self, restored_tensors: dict[str, tf.Tensor]
    ) -> tf.Operation:
        value = restored_tensors[checkpoints.VALUE_KEY]
        if len(restored_tensors) == 1:
            return self._begin_at(value)
        if self._store.centers:
            exact = restored_tensors.get(checkpoints.MASTER_KEY, value)
            self._store.set_center(exact)
        keys = checkpoints.worker_keys(self._store.num_workers)
        for worker, key in enumerate(keys):
            self._store.assign(worker, restored_tensors[key])
        return tf.no_op()

    def _begin_at(self, value: tf.Tensor) -> tf.Operation:
        """All workers begin at a center's value, with empty slots."""
        is_clock = self.shape.rank == 0 and not self._follows
        if self._of_model or is_clock:
            self._set_all(value)
        return tf.no_op()


def update_if_rows(
    update_fn: Callable[..., Any],
    copy: tf.Variable,
    value: TensorLike,
    **kwargs: Any,
) -> Any:
    """Updates a replica's copy, unless the replica has got no rows.

    Args:
        update_fn: such as `tf.Variable.assign`.
        copy: the replica's.
        value: to be passed to `update_fn`.
        **kwargs: likewise.
    """
    has_rows = views.has_rows()
    if has_rows is None:
        return update_fn(copy, value, **kwargs)
    before = copy.read_value()
    with tf.control_dependencies([before]):
        update_fn(copy, value, **kwargs)
    return copy.assign(tf.where(has_rows, copy.read_value(), before))
