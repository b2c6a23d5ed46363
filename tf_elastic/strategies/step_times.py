"""Where the time of a training step goes, measured inside the graph."""

import contextlib
import time
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_elastic import compat

_HOST = "/device:CPU:0"


class StepTimes(NamedTuple):
    """Seconds since the strategy was made, over all counted steps."""

    data_s: float  # waiting for the batch to be on the devices
    compute_s: float  # gradients and local updates
    exchange_s: float  # between workers and center
    steps: int  # local steps of each worker that were counted


class StepTimer:
    """Adds up the times of steps, also of many in one graph call.

    A step lasts from a boundary (the end of the step before it, or where
    `mark_boundary` was called) to the end of all workers' updates. Steps in
    which something was traced or compiled are not counted.
    """

    def __init__(self) -> None:
        with tf.device(_HOST):
            self._boundary = tf.Variable(0.0, dtype=tf.float64)
            self._data_s = tf.Variable(0.0, dtype=tf.float64)
            self._total_s = tf.Variable(0.0, dtype=tf.float64)
            self._exchange_s = tf.Variable(0.0, dtype=tf.float64)
            self._steps = tf.Variable(0, dtype=tf.int64)
            self._exchanged = tf.Variable(False)  # since the last trace
        self._arrival: tf.Tensor | None = None

    def mark_boundary(self) -> None:
        """Starts the clock of the next step now; in eager code."""
        self._boundary.assign(time_after([]))

    def read(self) -> StepTimes:
        """The times so far; in eager code."""
        data, exchange = float(self._data_s), float(self._exchange_s)
        compute = float(self._total_s) - data - exchange
        return StepTimes(data, compute, exchange, int(self._steps))

    @contextlib.contextmanager
    def batch(self, tensors: Iterable[tf.Tensor]) -> Iterator[None]:
        """Takes the time when a batch is there, for the step inside."""
        if not tf.executing_eagerly():
            with tf.init_scope():
                self._boundary.assign(0.0)
                self._exchanged.assign(False)
        self._arrival = time_after(
            t for t in tf.nest.flatten(tensors, True) if tf.is_tensor(t)
        )
        try:
            yield
        finally:
            self._arrival = None

    def exchange_took(self, begin: tf.Tensor, end: tf.Tensor) -> None:
        """Adds the time of one exchange, if its step is counted.

        The first after a trace is not, nor its step: XLA compiles in it.
        """
        self._boundary.assign(
            tf.where(self._exchanged, self._boundary.read_value(), 0.0)
        )
        self._exchanged.assign(True)
        counted = self._boundary > 0
        self._exchange_s.assign_add(tf.where(counted, end - begin, 0.0))

    def step_ended(self, results: Iterable[tf.Tensor]) -> None:
        """Adds the time of the step that `results` are the outcome of."""
        end = time_after(results)
        begin = self._boundary.read_value()
        arrival = self._arrival if self._arrival is not None else begin
        counted = begin > 0
        with tf.device(_HOST):
            self._total_s.assign_add(tf.where(counted, end - begin, 0.0))
            self._data_s.assign_add(
                tf.where(counted, tf.maximum(arrival - begin, 0.0), 0.0)
            )
            self._steps.assign_add(tf.cast(counted, tf.int64))
            self._boundary.assign(end)


def time_after(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    """The time, in seconds, when these tensors are computed."""
    with tf.device(_HOST), tf.control_dependencies(list(tensors)):
        if compat.is_deterministic():
            # tf.timestamp is refused there, for its value is never the same.
            return tf.ensure_shape(tf.numpy_function(_now, [], tf.float64), ())
        return tf.timestamp()


def _now() -> np.float64:
    return np.float64(time.time())
