"""What users call of all elastic strategies."""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic.strategies import scopes
from tf_elastic.strategies.elastic_extended import ElasticExtended
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.step_times import StepTimes


def check_devices(devices: Sequence[str] | None) -> None:
    """Refuses a device that is named twice.

    Raises:
        ValueError: there is one.
    """
    if devices is not None and len(devices) != len(
        {compat.canonical_device(device) for device in devices}
    ):
        raise ValueError(
            "`devices` must not name a device twice. "
            f"Received: devices={list(devices)}."
        )


class ElasticStrategy(tf.distribute.MirroredStrategy):
    """Base class: what users call, whatever the workers are."""

    def __init__(self, extended: ElasticExtended) -> None:
        tf.distribute.Strategy.__init__(self, extended)
        compat.build_by_specification()
        compat.is_as_written("tf_elastic")

    def scope(self) -> contextlib.AbstractContextManager:
        """Inside, variables are created for each worker, and the center.

        Raises:
            ValueError: what was made in another scope is used inside.
        """
        return scopes.explained(self, super().scope())

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""
        return self.extended.num_workers

    def run(
        self,
        fn: Callable,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
    ) -> Any:
        """Runs `fn` once on each device of this process.

        Args:
            fn: called in replica context.
            args: its positional arguments; per-replica values are taken apart.
            kwargs: its keyword arguments, likewise.
            options: `tf.distribute.RunOptions`.

        Returns:
            What `fn` returns, as per-replica values.
        """
        if self.extended.step is not None:  # one inside of another
            return super().run(fn, args, kwargs, options)
        arguments = (tuple(args), kwargs or {})
        is_keras = compat.is_keras_step(fn)
        if is_keras and not any(
            map(compat.is_per_replica, tf.nest.flatten(arguments))
        ):  # `train_on_batch` and the like
            arguments = compat.split_rows(arguments, self.num_replicas_in_sync)
        run_once = functools.partial(self._run_once, fn, is_keras, options)
        if compat.is_train_step(fn):
            return self.extended.run_training_step(run_once, arguments)
        return run_once(arguments)

    def _run_once(
        self,
        fn: Callable,
        is_keras: bool,
        options: Any,
        arguments: Any,
        lender: Any = None,
    ) -> Any:
        """One step, whose arguments are as `Step` has them."""
        step = Step(
            compat.is_train_step(fn),
            is_keras,
            arguments,
            self.num_replicas_in_sync,
            lender,
        )
        with self.extended.step_on(step):
            result = super().run(fn, *arguments, options)
            self.extended.replicas_have_run(step)
        self.extended.fit_end.is_of(
            getattr(fn, "__self__", None),
            [(optimizer, own) for optimizer, _, own in step.optimizers],
        )
        return result

    def reduce(self, reduce_op: Any, value: Any, axis: Any) -> Any:
        """Reduces a per-replica value; see `tf.distribute.Strategy.reduce`.

        Keras averages the slices of a first batch to learn its shape, which
        fails where they do not have the same number of rows, are booleans or
        strings, or are ragged or sparse. A mean of such is their first here.
        """
        reduce = super().reduce
        if not compat.is_mean(reduce_op) or axis is not None:
            return reduce(reduce_op, value, axis)

        def mean(part: Any) -> Any:
            first = compat.first_if_no_mean(part)
            return reduce(reduce_op, part, axis) if first is part else first

        return tf.nest.map_structure(mean, value)

    def step_times(self) -> StepTimes:
        """Where the time of the training steps so far went.

        Returns:
            `StepTimes`, in seconds. On a GPU the work is queued, and the
            split between compute and exchange is only a rough one.
        """
        return self.extended.timer.read()

    def mark_step_boundary(self) -> None:
        """Tells that a training step begins now.

        A callback calls it in `on_train_batch_begin`, so that what happened
        between two steps (validation, other callbacks) does not count as
        waiting for data.
        """
        self.extended.timer.mark_boundary()
