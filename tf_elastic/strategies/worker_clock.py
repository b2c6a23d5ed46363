"""A worker's clock and learning rate, which outlive its process."""

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.strategies.worker_variable import WorkerVariable


class WorkerClock:
    """What an optimizer counts, and by what rate, on all devices.

    Args:
        stepper: the optimizer whose calls are counted.
    """

    def __init__(self, stepper: keras.optimizers.Optimizer) -> None:
        self._calls, rate = compat.clock_and_rate(stepper)
        # Of the calls, so many make a local step.
        self._every = stepper.gradient_accumulation_steps or 1
        # A schedule follows the clock by itself.
        self._rate = rate if isinstance(rate, WorkerVariable) else None

    def steps(self) -> tf.Tensor:
        """The worker's local steps, int64."""
        calls = tf.cast(self._calls.store.read(0), tf.int64)
        return calls // self._every

    def go_on_from(self, steps: int | tf.Tensor) -> None:
        """Sets the clock, unless it is further already.

        Args:
            steps: local steps, int64 scalar.
        """
        steps = tf.cast(steps, tf.int64)

        def go_on() -> None:
            self._calls.store.set_all(
                tf.cast(steps * self._every, self._calls.dtype)
            )

        tf.cond(steps > self.steps(), go_on, lambda: None)

    def rate(self) -> tf.Tensor:
        """The learning rate, float64; NaN if it is none that can be set."""
        if self._rate is None:
            return tf.constant(float("nan"), tf.float64)
        return tf.cast(self._rate.store.read(0), tf.float64)

    def take_rate(self, rate: float | tf.Tensor) -> None:
        """Sets the learning rate, unless this one is NaN."""
        if self._rate is None:
            return
        rate = tf.cast(rate, tf.float64)

        def take() -> None:
            self._rate.store.set_all(tf.cast(rate, self._rate.dtype))

        tf.cond(tf.math.is_finite(rate), take, lambda: None)
