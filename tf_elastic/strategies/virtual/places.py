"""Where a worker of a bank is: live, or in its row."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_elastic.optimizers.exchange_spec import AdmmVariable
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.stores import BankStore

Tensors = list[tf.Tensor]


class Live:
    """The worker whose turn it is."""

    def get(self, store: BankStore) -> tf.Tensor:
        """Its value."""
        return store.live[0].read_value()

    def set(self, store: BankStore, value: tf.Tensor) -> None:
        """Sets its value."""
        store.live[0].assign(value, read_value=False)


class Row:
    """A worker between two turns.

    Args:
        worker: its number, int64 scalar.
    """

    def __init__(self, worker: tf.Tensor) -> None:
        self.worker = worker

    def get(self, store: BankStore) -> tf.Tensor:
        """Its value."""
        return store.row(self.worker)

    def set(self, store: BankStore, value: tf.Tensor) -> None:
        """Sets its value."""
        store.put(self.worker, value)


Place = Live | Row


def forget_gradients(
    place: Place, parameters: Sequence[ExchangedVariable]
) -> None:
    """A worker has no gradient that it could send.

    Args:
        place: where it is.
        parameters: of an exchange of gradients.
    """
    for parameter in parameters:
        if parameter.slot is not None:
            store = parameter.slot.store
            place.set(store, tf.zeros_like(place.get(store)))


class WorkerValues(NamedTuple):
    """What a worker's messages are made of, one entry for each variable."""

    stored: list[Tensors]  # of parameters: see `ExchangedVariable.stored`
    slots: list[tf.Tensor | None]  # of parameters
    statistics: Tensors

    @classmethod
    def read(
        cls,
        place: Place,
        parameters: Sequence[ExchangedVariable | AdmmVariable],
        statistics: Sequence[ElasticVariable],
    ) -> "WorkerValues":
        """Those of a worker.

        Args:
            place: where it is.
            parameters: of the exchange.
            statistics: that are taken along.
        """
        return cls(
            [
                [place.get(variable.store) for variable in each.stored_in]
                for each in parameters
            ],
            [
                None if each.slot is None else place.get(each.slot.store)
                for each in parameters
            ],
            [place.get(variable.store) for variable in statistics],
        )
