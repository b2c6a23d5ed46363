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

import weakref
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.strategies import checkpoints
from tf_elastic.strategies import views
from tf_elastic.strategies.resuming import Resumption
from tf_elastic.strategies.resuming import cast
from tf_elastic.strategies.resuming import is_same


class WorkerVariable(compat.MirroredVariable):
    """One independent copy for each worker, and no center.

    Outside of replicas it reads as the first worker's copy.

    Args:
        strategy: whose variable it is.
        values: the copies, one on each device.
        of_model: whether it is a model's variable, not an optimizer's.
        aggregation: of what replicas assign.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        values: Sequence[tf.Variable],
        of_model: bool = False,
        aggregation: tf.VariableAggregation = tf.VariableAggregation.NONE,
    ) -> None:
        self._of_model = of_model
        self._follows = False  # another one, which it begins anew with
        self._was_set = False  # from outside, as the layer does that loads it
        self._resumption: Resumption | None = None
        super().__init__(strategy, values, aggregation)

    @property
    def worker_copies(self) -> tuple[tf.Variable, ...]:
        """The workers' copies, in the order of the strategy's devices."""
        return tuple(self._values)

    def worker_values(self) -> np.ndarray:
        """The workers' values, shape (p, ...), in eager code."""
        return np.stack([copy.numpy() for copy in self.worker_copies])

    def assign_worker_values(self, values: Sequence[Any]) -> None:
        """Sets each worker's copy to its own value, in eager code.

        Args:
            values: p arrays of this variable's shape.
        """
        for copy, value in zip(self.worker_copies, values, strict=True):
            copy.assign(value)

    @property
    def follows(self) -> bool:
        """Whether it begins anew with a model's variable."""
        return self._follows

    @property
    def followers(self) -> list["WorkerVariable"]:
        """What an optimizer remembers of it, which begins anew with it."""
        return []

    def resume(
        self,
        center: Any,
        workers: Any,
        followers: Sequence[tuple[Callable[[Any], Any], Any]] = (),
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
        value: Any,
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

    def _set_all(self, value: Any, *args: Any) -> Any:
        return super().assign(value, *args)

    def _reads_as(self, value: Any) -> bool:
        """Whether all have this value already, or differ from it in order.

        A worker that is not finite is not in order.
        """
        return is_same(value, self._values[0].numpy()) and (
            not self.dtype.is_floating
            or all(
                bool(tf.reduce_all(tf.math.is_finite(copy)))
                for copy in self.worker_copies
            )
        )

    def _update_replica(
        self, update_fn: Callable[..., Any], value: Any, **kwargs: Any
    ) -> Any:
        if not self._of_model:
            return super()._update_replica(update_fn, value, **kwargs)
        views.note_moved(self)
        if self._is_aggregated():
            # A tensor of its own in each replica, also of a plain number.
            value = tf.identity(tf.cast(value, self.dtype))
            return super()._update_replica(update_fn, value, **kwargs)
        copy = self.worker_copies[compat.current_replica_id()]
        return _update_if_rows(update_fn, copy, value, **kwargs)

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
            keys = checkpoints.worker_keys(len(self.worker_copies))
            for key in checkpoints.keys_to_restore(keys):
                copy = self.worker_copies[keys.index(key)]
                tensors[key] = tf.identity(copy)
        return tensors

    def _restore_from_tensors(
        self, restored_tensors: dict[str, tf.Tensor]
    ) -> tf.Operation:
        value = restored_tensors[checkpoints.VALUE_KEY]
        if len(restored_tensors) == 1:
            return self._begin_at(value)
        keys = checkpoints.worker_keys(len(self.worker_copies))
        updates = [
            copy.assign(restored_tensors[key]).op
            for key, copy in zip(keys, self.worker_copies, strict=True)
        ]
        if self.worker_copies[0] is not self._values[0]:  # A center.
            updates += [copy.assign(value).op for copy in self._values]
        return tf.group(*updates)

    def _begin_at(self, value: tf.Tensor) -> tf.Operation:
        """All workers begin at a center's value, with empty slots."""
        is_clock = self.shape.rank == 0 and not self._follows
        if self._of_model or is_clock:
            self._set_all(value)
        return tf.no_op()

class _Follower(NamedTuple):
    """What begins anew with a variable."""

    reference: "weakref.ref[tf.Variable]"
    initial: Callable[[Any], Any]
    only_at_rest: bool

    def begin_at(self, value: Any) -> None:
        follower = self.reference()
        if follower is not None:
            follower.assign(self.initial(tf.cast(value, follower.dtype)))


def _update_if_rows(
    update_fn: Callable[..., Any], copy: tf.Variable, value: Any, **kwargs: Any
) -> Any:
    """Updates a replica's copy, unless the replica has got no rows."""
    has_rows = views.has_rows()
    if has_rows is None:
        return update_fn(copy, value, **kwargs)
    before = copy.read_value()
    with tf.control_dependencies([before]):
        update_fn(copy, value, **kwargs)
    return copy.assign(tf.where(has_rows, copy.read_value(), before))


class ElasticVariable(WorkerVariable):
    """A model's variable: one copy for each worker, and the center.

    The center is held once on every device, always with the same value. It is
    what the underlying mirrored variable consists of, so everything that
    knows mirrored variables (export, checkpoints) finds the center.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        center_copies: Sequence[tf.Variable],
        worker_copies: Sequence[tf.Variable],
        aggregation: tf.VariableAggregation = tf.VariableAggregation.NONE,
    ) -> None:
        self._worker_copies = tuple(worker_copies)
        self._followers: list[_Follower] = []
        # Whether an optimizer of the package has it among its variables.
        self.is_trained = False
        super().__init__(
            strategy, center_copies, of_model=True, aggregation=aggregation
        )

    @property
    def worker_copies(self) -> tuple[tf.Variable, ...]:
        """The workers' copies, in the order of the strategy's devices."""
        return self._worker_copies

    @property
    def center_copies(self) -> tuple[tf.Variable, ...]:
        """The center's copies, one on each device, all equal."""
        return tuple(self._values)

    @property
    def handle(self) -> Any:
        """The resource that a gradient with respect to this variable means."""
        replica_id = compat.current_replica_id()
        if replica_id is None or compat.is_single_copy_export():
            return super().handle
        return self._worker_copies[replica_id].handle

    def begins_anew_with(
        self,
        follower: tf.Variable,
        initial: Callable[[Any], Any] = lambda value: value,
        only_at_rest: bool = False,
    ) -> None:
        """Lets an optimizer's variable start with this one.

        When all workers and the center are set from outside (a file is
        loaded, `set_weights`), so is what an optimizer remembers of where
        they were; else the way from there would count as a worker's own.

        Args:
            follower: of the same shape; held weakly.
            initial: what it starts at, of this one's value.
            only_at_rest: whether it does so only in `come_to_rest`.
        """
        follower._follows = True
        self._followers.append(
            _Follower(weakref.ref(follower), initial, only_at_rest)
        )

    @property
    def followers(self) -> list[WorkerVariable]:
        """What an optimizer remembers of it, which begins anew with it."""
        followers = [
            follower.reference()
            for follower in self._followers
            if not follower.only_at_rest
        ]
        return [follower for follower in followers if follower is not None]

    def _set_all(self, value: Any, *args: Any) -> Any:
        """Also what begins anew with it, outside of replicas."""
        result = super()._set_all(value, *args)
        if compat.current_replica_id() is None:
            for follower in self._followers:
                if not follower.only_at_rest:
                    follower.begin_at(value)
        return result

    def _begin_at(self, value: tf.Tensor) -> tf.Operation:
        """All workers begin at a center's value, with no velocity."""
        done = super()._begin_at(value)
        self.stop_moving(value)
        return done

    def stop_moving(self, center: Any) -> None:
        """Lets what would move it at rest begin at zero, or at the center."""
        for follower in self._followers:
            if follower.only_at_rest:
                follower.begin_at(center)

    def set_center(self, value: Any) -> None:
        """Sets the center, on every device; the workers stay."""
        for copy in self._values:
            with tf.device(copy.device):
                copy.assign(value, read_value=False)

    def come_to_rest(self) -> None:
        """Sets all workers to the center, in eager code.

        So does what an optimizer remembers: whatever has moved this variable
        moves it no more.
        """
        center = self._values[0].read_value()
        for copy in (*self._worker_copies, *self._values):
            copy.assign(center)
        for follower in self._followers:
            follower.begin_at(center)

    def is_at_rest(self) -> bool:
        """Whether all workers are where the center is, in eager code."""
        center = self._values[0].read_value()
        return all(
            bool(tf.reduce_all(tf.equal(copy, center)))
            for copy in self._worker_copies
        )

    def _get_replica(self, replica_id: int) -> tf.Variable:
        if views.sees_worker():
            return self._worker_copies[replica_id]
        return self._values[replica_id]

    def _get(self) -> tf.Variable:
        if compat.current_replica_id() is None:
            return self._get_on_device_or_primary()
        return super()._get()

    def _get_on_device_or_primary(self) -> tf.Variable:
        if compat.current_replica_id() is None:
            self.distribute_strategy.extended.center_is_read()
            with views.center_view():
                return super()._get_on_device_or_primary()
        return super()._get_on_device_or_primary()

    def _update_replica(
        self, update_fn: Callable[..., Any], value: Any, **kwargs: Any
    ) -> Any:
        if views.sees_worker() or self._is_aggregated():
            return super()._update_replica(update_fn, value, **kwargs)
        if self.is_trained:
            raise RuntimeError(
                "A replica may not assign to a variable that is trained "
                "before its step of training has begun: it is unclear "
                "whether its worker or the center is meant. Received: "
                f"variable={self.name!r}. Assign after the optimizer's step, "
                "use a `constraint` on the variable, or assign inside `with "
                "tf_elastic.strategies.worker_view():`."
            )
        super()._update_replica(update_fn, value, **kwargs)
        center = self._values[compat.current_replica_id()]
        return _update_if_rows(update_fn, center, value, **kwargs)

    def _is_aggregated(self) -> bool:
        """A trained one is each worker's own, whatever was asked for."""
        return super()._is_aggregated() and not self.is_trained

    def _update_cross_replica(
        self, update_fn: Callable[..., Any], value: Any, **kwargs: Any
    ) -> Any:
        for copies in (self._worker_copies, self.center_copies):
            for i, copy in enumerate(copies):
                with tf.device(copy.device):
                    update_fn(copy, compat.select_replica(i, value), **kwargs)
        return self


class SeedVariable(WorkerVariable):
    """The state of a random generator, different on every worker.

    The first worker draws what it would draw alone; the others fold their
    number into the seed, so that dropout masks differ among workers.
    """

    def resume(
        self,
        center: Any,
        workers: Any,
        followers: Sequence[tuple[Callable[[Any], Any], Any]] = (),
    ) -> None:
        """Sets the workers as a file has them: no layer loads a seed."""
        del center, followers
        self.assign_worker_values(workers)

    def _update_cross_replica(
        self, update_fn: Callable[..., Any], value: Any, **kwargs: Any
    ) -> Any:
        super()._update_cross_replica(update_fn, value, **kwargs)
        self.diversify()
        return self

    def diversify(self) -> None:
        """Derives the other workers' seeds from the first one's."""
        first = self.distribute_strategy.extended.first_seed_number()
        seed_of_all = self._values[0].read_value()
        for i, copy in enumerate(self._values, start=first):
            if i > 0:
                with tf.device(copy.device):
                    seed = tf.random.experimental.stateless_fold_in(
                        seed_of_all, i
                    )
                    copy.assign(tf.cast(seed, copy.dtype))
