"""An exchange of all workers of a process, as the orders go through it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from tf_elastic.core import orders
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import Rates
from tf_elastic.strategies.device_exchange import Tensors

if TYPE_CHECKING:
    from tf_elastic.strategies.rule_exchange import RuleExchange

# By role, what `Rule.rates_at` gives.
RatesByRole = Mapping[str, Rates]
# Of each variable what its parent keeps.
Parents = list[dict[str, tf.Tensor]]

PARAMETERS, STATISTICS = "parameters", "statistics"


class Meeting:
    """One exchange on devices: a `core.orders.Place`.

    Args:
        exchange: which does each piece.
        rates: of it.
        count: exchanges before this one, integer scalar.
    """

    def __init__(
        self,
        exchange: "RuleExchange",
        rates: Rates,
        count: tf.Tensor,
    ) -> None:
        self._exchange = exchange
        self._rates = rates
        self._count = tf.cast(count, tf.float64)
        self._parents: Parents | None = None
        self._kept: Mapping[str, tf.Tensor] = exchange.kept
        self.rates_now = exchange.rates_at(
            rates,
            Context(
                self._count,
                tf.constant(1.0, tf.float64),
                exchange.num_workers,
                self._kept,
            ),
        )

    def children(self) -> range:
        """The workers."""
        return range(self._exchange.num_workers)

    def differ(self, i: int) -> Tensors:
        """See `core.orders.Place`."""
        return self._exchange.differ(i)

    def leave(self, i: int) -> Tensors:
        """See `core.orders.Place`."""
        return self._exchange.leave(i, self.rates_now)

    def collect(self, deltas: Sequence[Tensors]) -> None:
        """See `core.orders.Place`."""
        self._exchange.write(self._exchange.collected(deltas, self.rates_now))
        self._kept = self.rates_now[PARAMETERS]

    def come_back(self, i: int) -> None:
        """See `core.orders.Place`."""
        self._exchange.come_back(i, self.rates_now)

    def visit(self, i: int) -> None:
        """See `core.orders.Place`."""
        if self._parents is None:
            self._parents = self._exchange.read()
        p = self._exchange.num_workers
        is_first = tf.cast(tf.equal(self._count, 0), tf.float64)
        others = orders.others_since(i, p, is_first)
        now = self._exchange.rates_at(
            self._rates,
            Context(
                self._count * p + i, tf.maximum(others, 1.0), kept=self._kept
            ),
        )
        self._parents = self._exchange.visit(i, now, self._parents)
        self._kept = now[PARAMETERS]

    def end(self) -> None:
        """Writes what the exchange has made of the center."""
        self._exchange.keep(self._kept)
        if self._parents is not None:
            self._exchange.write(self._parents)
