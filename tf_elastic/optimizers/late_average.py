"""Averages of the center that begin when the learning rate is reduced."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers import nested
from tf_elastic.optimizers.center_optimizer import CenterOptimizer


class LateAverage(CenterOptimizer):
    """Mixin: an average over time that may begin late, see `average_from`.

    With "first_cut" each worker notes the largest learning rate that it has
    had, and the step that first has a lower one. It tells so with each message
    from then on, and the center's average begins with the first of these.

    Reference:
        Zhang (2016), section 4.3.1.
    """

    average_from: int | str = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._largest_rate: keras.Variable | None = None
        self._cut_at: keras.Variable | None = None  # 0: not yet

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        super()._build_variables(variables)
        if self.average_from == core.FIRST_CUT:
            self._largest_rate = self.add_variable(
                (), dtype=keras.config.floatx(), name="largest_learning_rate"
            )
            self._cut_at = self.add_variable(
                (), dtype="int64", name="learning_rate_cut_at"
            )

    def _step_begins(self) -> None:
        """Looks at the learning rate of a local step."""
        super()._step_begins()
        if self._largest_rate is None or self._cut_at is None:
            return
        clock, is_step = self.local_clock("before")
        largest, at = self._largest_rate.value, self._cut_at.value
        # Of several inside of an optimizer, the first one's.
        [stepper, *_] = nested.steppers_in(self._stepper())
        rate = tf.cast(stepper.learning_rate, largest.dtype)
        is_first = tf.logical_and(tf.equal(at, 0), rate < largest)
        self._cut_at.assign(
            tf.where(tf.logical_and(is_step, is_first), clock, at)
        )
        self._largest_rate.assign(
            tf.where(is_step, tf.maximum(largest, rate), largest)
        )

    def _cut_numbers(self) -> list[tf.Tensor]:
        """For the rates of an exchange: the step that was cut first, or 0."""
        return [] if self._cut_at is None else [self._cut_at.value]


def rates_of_cut(numbers: Sequence[float | tf.Tensor]) -> rules.Rates:
    """The rates of an exchange that tell of a cut.

    Args:
        numbers: what `LateAverage._cut_numbers` gave, floats or tensors.

    Example:

    >>> rates_of_cut([]), rates_of_cut([0.0]), rates_of_cut([7.0])
    ({}, {'is_cut': 0.0}, {'is_cut': 1.0})
    """
    if not len(numbers):
        return {}
    return {rules.IS_CUT: core.is_before(0, numbers[0])}


def check_has_average(
    average: float | str | None, average_from: int | str
) -> None:
    """Refuses the beginning of an average that there is not.

    Raises:
        ValueError: `average` is None, and `average_from` is given.
    """
    core.check_average_from(average_from)
    if average_from and average is None:
        raise ValueError(
            "`average_from` needs `center_average`, or there is nothing to "
            f"begin. Received: average_from={average_from}, "
            'center_average=None. Give `center_average="polyak"` too.'
        )
