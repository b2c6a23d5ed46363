"""The rates that are told of exchanges, where nothing learned changes them."""

from collections.abc import Mapping

import tensorflow as tf

from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.telling import RatesOf


def constant_rates(spec: ExchangeSpec) -> RatesOf | None:
    """The rates of an exchange, where they depend on no variable."""
    if spec.numbers(tf.constant(0, tf.int64)).shape[0]:
        return None

    def rates_of(move: Move) -> Mapping[str, float | None]:
        p, clock = move.num_workers, move.clock // spec.calls_per_step
        return {**spec.rates(p, clock, []), "num_workers": p}

    return rates_of
