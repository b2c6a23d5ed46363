"""The newest gradients, and how late the one to be used is."""

import functools
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.core import delays
from tf_elastic.optimizers.strategy_interface import Gradient


class GradientRing:
    """Keeps the newest `max_delay` + 1 gradients of every variable.

    The present one is among them: it is written first and a late one read
    then, which XLA does in place. (Reading the oldest before it is
    overwritten would save a slot, but XLA copies the whole ring for it.)
    With `max_delay` 0 the ring is empty.

    Args:
        variables: those that the gradients are of.
        delay: a `Delay`.
        add_variable: the optimizer's method of that name.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        delay: delays.Delay,
        add_variable: Callable[..., keras.Variable],
    ) -> None:
        self._delay = delay
        self._slots = delay.max_delay + 1 if delay.max_delay else 0
        self.gradients: list[keras.Variable] = []
        self.seen = self.num_cut = None
        if delay.unbounded:
            self.num_cut = add_variable((), dtype="int64", name="delays_cut")
        if not self._slots:
            return
        for variable in variables:
            shape = (self._slots, *variable.shape)
            self.gradients.append(
                add_variable(shape, dtype=variable.dtype, name="gradient_ring")
            )
        # How many gradients the ring has seen. Not a scalar: these are clocks
        # to a checkpoint, which go on where a ring cannot (when the number of
        # workers has changed) and must begin anew.
        self.seen = add_variable((1,), dtype="int64", name="gradients_seen")

    def exchange(
        self,
        step: tf.Tensor,
        grads: Sequence[Gradient],
        indices: Sequence[int],
    ) -> list[Gradient]:
        r"""Stores the gradients of step k, returns those of step k - tau_k.

        Args:
            step: k, an integer tensor.
            grads: one for each of `indices`.
            indices: the variables' places in the list that the ring was made
                for. A variable that is missing has no gradient now; that
                counts as zero later.

        Returns:
            One dense gradient for each of `indices`. (Without slots: `grads`
            as they are.)
        """
        late = self._draw(tf.cast(step, tf.int64))
        if not self._slots:
            return list(grads)
        seen = _own_copy(self.seen)
        count = seen.read_value()[0]
        late = tf.minimum(late, count)
        newest = tf.math.floormod(count, self._slots)
        wanted = tf.math.floormod(count - late, self._slots)
        present = dict(zip(indices, grads, strict=True))
        delayed = {}
        for index, variable in enumerate(self.gradients):
            ring = _own_copy(variable)
            if index in present:
                grad = tf.convert_to_tensor(present[index])
                grad = tf.cast(grad, ring.dtype)
            else:
                grad = tf.zeros(ring.shape[1:], ring.dtype)
            ring.scatter_update(
                tf.IndexedSlices(grad[tf.newaxis], newest[tf.newaxis])
            )
            if index in present:
                delayed[index] = tf.gather(ring, wanted)
        seen.assign_add([1])
        return [delayed[index] for index in indices]

    def _draw(self, step: tf.Tensor) -> tf.Tensor:
        """The delay of a step of this worker, as `Delay.draw` has it."""
        worker = _worker_number()
        if isinstance(worker, int):
            late = self._uncut(step, worker)
        else:
            everyone = range(tf.distribute.get_strategy().extended.num_workers)
            late = tf.switch_case(
                tf.cast(worker, tf.int32),
                [functools.partial(self._uncut, step, i) for i in everyone],
            )
        if self.num_cut is not None:
            cut = late > self._delay.max_delay
            _own_copy(self.num_cut).assign_add(tf.cast(cut, tf.int64))
        return tf.minimum(late, self._delay.max_delay)

    def _uncut(self, step: tf.Tensor, worker: int) -> tf.Tensor:
        if isinstance(self._delay, delays.ListedDelay):
            values = self._delay.values_of(worker)
            # Not by [], for which XLA would compile anew at every step.
            return tf.gather(values, step % len(values))
        words = self._delay.words(tf.cast(step, tf.uint64)[tf.newaxis], worker)
        reached = tf.cast(words, tf.int64) >= self._delay.thresholds
        return self._delay.smallest + tf.math.count_nonzero(reached)

    def cut_of_workers(self) -> int:
        """How many delays were cut so far, over all workers; eager."""
        if self.num_cut is None:
            return 0
        native = compat.native_variable(self.num_cut)
        store = getattr(native, "store", None)
        counts = [native] if store is None else store.values()
        return int(np.sum([count.numpy() for count in counts]))


def _own_copy(variable: keras.Variable) -> tf.Variable:
    """This replica's copy of a variable; the variable where there is one."""
    native = compat.native_variable(variable)
    store = getattr(native, "store", None)
    return native if store is None else store.live[compat.current_replica_id()]


def _worker_number() -> int | tf.Tensor:
    """This replica's worker's number among all; 0 without a strategy."""
    replica = compat.current_replica_id()
    if replica is None:
        return 0
    return tf.distribute.get_strategy().extended.worker_of(replica)
