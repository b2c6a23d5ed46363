"""Variables of a model, with a center."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic.strategies import views
from tf_elastic.strategies.followers import Followers
from tf_elastic.strategies.stores import TensorLike
from tf_elastic.strategies.stores import WorkerStore
from tf_elastic.strategies.worker_variable import WorkerVariable
from tf_elastic.strategies.worker_variable import update_if_rows


class ElasticVariable(WorkerVariable):
    """A model's variable: a value for each worker, and the center.

    The center is held once on every device, always with the same value. It is
    what the underlying mirrored variable consists of, so everything that
    knows mirrored variables (export, checkpoints) finds the center.

    Args:
        strategy: whose variable it is.
        store: where the workers' values are, and the center's copies.
        aggregation: of what replicas assign.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        store: WorkerStore,
        aggregation: tf.VariableAggregation = tf.VariableAggregation.NONE,
    ) -> None:
        self._followers = Followers()
        # Whether an optimizer of the package has it among its variables.
        self.is_trained = False
        super().__init__(
            strategy, store, of_model=True, aggregation=aggregation
        )

    @property
    def handle(self) -> Any:
        """The resource that a gradient with respect to this variable means."""
        replica_id = compat.current_replica_id()
        if replica_id is None or compat.is_single_copy_export():
            return super().handle
        return self.store.live[replica_id].handle

    def begins_anew_with(
        self,
        follower: tf.Variable,
        initial: Callable[[tf.Tensor], tf.Tensor] = lambda value: value,
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
        if isinstance(follower, WorkerVariable):
            follower.follow()
        self._followers.add(follower, initial, only_at_rest)

    @property
    def followers(self) -> list[tf.Variable]:
        """What an optimizer remembers of it, which begins anew with it."""
        return self._followers.alive()

    def _set_all(self, value: TensorLike, *args: Any) -> Any:
        """Also what begins anew with it, outside of replicas."""
        result = super()._set_all(value, *args)
        if compat.current_replica_id() is None:
            self._followers.begin_at(value)
        return result

    def _begin_at(self, value: tf.Tensor) -> tf.Operation:
        """All workers begin at a center's value, with no velocity."""
        done = super()._begin_at(value)
        self.stop_moving(value)
        return done

    def stop_moving(self, center: TensorLike) -> None:
        """Lets what would move it at rest begin at zero, or at the center."""
        self._followers.stop_at(center)

    def come_to_rest(self) -> None:
        """Sets all workers to the center, in eager code.

        So does what an optimizer remembers: whatever has moved this variable
        moves it no more.
        """
        center = self._values[0].read_value()
        self.store.set_all(center)
        self._followers.begin_at(center)
        self._followers.stop_at(center)

    def is_at_rest(self) -> bool:
        """Whether all workers are where the center is, in eager code."""
        center = self._values[0].read_value()
        return all(
            bool(tf.reduce_all(tf.equal(value, center)))
            for value in self.store.values()
        )

    def _get_replica(self, replica_id: int) -> tf.Variable:
        if views.sees_worker():
            return self.store.live[replica_id]
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
        self, update_fn: Callable[..., Any], value: TensorLike, **kwargs: Any
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
        return update_if_rows(update_fn, center, value, **kwargs)

    def _is_aggregated(self) -> bool:
        """A trained one is each worker's own, whatever was asked for."""
        return super()._is_aggregated() and not self.is_trained
