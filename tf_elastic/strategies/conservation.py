"""The switch that watches what an exchange must conserve."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_elastic.core.arrays import widened
from tf_elastic.core.rules import Rates

# Each sum of p + 1 terms is rounded a few times.
_ROUNDINGS = 32


@contextlib.contextmanager
def checked(exchange: Any, order: str, rates: Rates) -> Iterator[None]:
    """Inside, an exchange is built that is checked when it runs.

    Args:
        exchange: a `RuleExchange`.
        order: one of `core.orders.ORDERS`.
        rates: of the exchange.

    Raises:
        ValueError: the rates are not symmetric, so nothing is conserved.
    """
    workers = exchange.num_workers
    moving_rate, beta_ = rates["moving_rate"], rates["beta"]
    numbers = all(isinstance(rate, (int, float)) for rate in rates.values())
    if not numbers or not math.isclose(
        beta_, workers * moving_rate, rel_tol=1e-6
    ):
        raise ValueError(
            "`check_conservation` needs beta = p * moving_rate, without which "
            "an exchange conserves nothing. Received: moving_rate="
            f"{moving_rate}, beta={beta_}, p={workers}. Leave "
            "`check_conservation` out."
        )
    beta = tf.constant(beta_, tf.float64)
    before = [tf.identity(x) for x in exchange.conserved(order, beta)]
    with tf.control_dependencies(before):
        yield
    after = exchange.conserved(order, beta)
    for parameter, was, now in zip(
        exchange.parameters, before, after, strict=True
    ):
        points = [widened(parameter.point(i)) for i in range(workers)]
        largest = tf.reduce_max([tf.reduce_max(tf.abs(x)) for x in points])
        scale = tf.maximum(largest, tf.reduce_max(tf.abs(was)))
        share = _ROUNDINGS * (workers + 1) * _epsilon(was.dtype)
        if parameter.variable.dtype != was.dtype:  # Workers have 16 bits.
            share += workers * _epsilon(parameter.variable.dtype)
        tf.debugging.assert_less_equal(
            tf.reduce_max(tf.abs(now - was)),
            scale * tf.cast(share, scale.dtype),
            message=(
                "An exchange did not conserve sum(workers) + center of "
                f"{parameter.variable.name!r} (order={order!r}, "
                f"moving_rate={moving_rate}, beta={beta_}). "
                "Please report this; to train on, leave `check_conservation` "
                "out."
            ),
        )


def _epsilon(dtype: tf.DType) -> float:
    return {2: 2**-8, 4: 2**-23, 8: 2**-52}[dtype.size]
