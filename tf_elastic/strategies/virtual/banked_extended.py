"""Several workers on one device of one process, which meet as on several."""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic.core import orders
from tf_elastic.optimizers import registry
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.elastic_extended import ElasticExtended
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.following import follow_mean
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.virtual import own_data
from tf_elastic.strategies.virtual.bank_exchange import BankExchange
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.turns import Timeline
from tf_elastic.strategies.virtual.virtual_extended import (
    VirtualClusterExtended,
)
from tf_elastic.timeline.virtual.in_order import InOrder
from tf_elastic.timeline.virtual.workload import Workload


class BankedExtended(VirtualClusterExtended):
    """Workers of one device, each of which has a turn in a step of `fit`.

    Args:
        container_strategy: whose `extended` this is.
        num_workers: p.
        device: where they are.
        order: one of `core.orders`; None for each optimizer's own.
        closing: see `ElasticMirroredStrategy`.
    """

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        num_workers: int,
        device: str | None,
        order: str | None,
        closing: bool,
    ) -> None:
        super().__init__(
            container_strategy, num_workers, device, None, self._in_order
        )
        self._asked_order = order
        self._closing = closing
        self._method = ""
        self._followers: list[ElasticVariable] = []

    def _in_order(self, workload: Workload) -> Timeline:
        return InOrder(workload, self.num_workers, self.order_of(self._method))

    def _distribute_datasets_from_function(
        self, dataset_fn: own_data.DatasetFn, options: Any
    ) -> Any:
        """One data set for all: its batches are cut."""
        return ElasticExtended._distribute_datasets_from_function(
            self, dataset_fn, options
        )

    def order_of(self, method: str) -> str:
        """In which order workers and center move, one of `theory.ORDERS`.

        Args:
            method: the name that the optimizer is registered by.

        Raises:
            ValueError: the strategy's is none that the method has.
        """
        return registry.chosen(method, "order", self._asked_order)

    def protocol_of(self, method: str) -> str:
        """That whose moves the order is made of."""
        in_turn = self.order_of(method) == orders.ROUND_ROBIN
        return "blocking" if in_turn else "synchronous"

    def make_exchange(
        self, spec: Spec, jit_compile: bool | str
    ) -> BankExchange:
        """See `VirtualClusterExtended`."""
        self._method = spec.method
        return super().make_exchange(spec, jit_compile)

    def counting(self, then: Callable[[], None]) -> Callable[[Moment], None]:
        """One exchange is that of all workers."""

        def count(moment: Moment) -> None:
            is_last = (moment.worker < 0) | (
                moment.worker == self.num_workers - 1
            )
            tf.cond(is_last, then, lambda: None)

        return count

    def averages_now(self) -> tf.Tensor:
        """When all workers have taken their step."""
        return tf.equal(self._bank.turn, self.num_workers - 1)

    # The end of training.

    def prepare_closing(self, exchange: BankExchange) -> None:
        """Tells that training may end between two exchanges."""
        if self._closing:
            with self.plain_variables():
                exchange.can_close()

    def close(
        self, exchange: BankExchange, clock: tf.Tensor, count: tf.Tensor
    ) -> None:
        """Training has ended for now: shows what an exchange would make.

        Args:
            exchange: of the last step.
            clock: local steps of each worker, integer scalar.
            count: exchanges so far, integer scalar.
        """
        if not self._closing:
            return
        follow_mean(self._followers, self.num_workers)
        calls = tf.cast(clock, tf.int64) * exchange.calls_per_step
        p = tf.constant(self.num_workers, tf.int64)
        none = tf.constant(0, tf.int64)
        version = tf.cast(count, tf.int64)
        if exchange.in_turn:  # The center has moved for each.
            version = version * p
        exchange.close(
            Moment(none, self._bank.turn, calls, version, none, p, p)
        )

    def follow(self, variables: Sequence[ElasticVariable], step: Step) -> None:
        """Lets centers be the mean of workers when a period has ended."""
        optimizer, *_ = step.optimizers[0]
        self._followers = list(variables)
        is_last = tf.equal(self._bank.turn, self.num_workers - 1)
        tf.cond(
            tf.logical_and(is_last, optimizer.period_ends()),
            lambda: follow_mean(variables, self.num_workers),
            lambda: None,
        )

    # A step of `fit`.

    def run_training_step(
        self, run_once: Callable[..., Any], arguments: Any
    ) -> Any:
        """Runs Keras' `train_step` for one worker after another.

        Args:
            run_once: runs it once.
            arguments: of it; the rows are cut into as many parts as there are
                workers.

        Returns:
            What it returns for the last one: metrics are of all by then.
        """
        parts = compat.split_rows(arguments, self.num_workers)
        turn = run_once
        if tf.inside_function():  # traced once for all of them
            turn = tf.function(
                run_once,
                autograph=False,
                experimental_attributes={"_noinline": True},
            )
        result = None
        for i in range(self.num_workers):
            part = tf.nest.map_structure(
                functools.partial(compat.select_replica, i), parts
            )
            result = turn(part, arguments)
        return result


def one_device(
    devices: Sequence[str] | None, workers_per_device: int
) -> str | None:
    """The device that several workers share.

    Args:
        devices: as given; None for all GPUs, or the CPU.
        workers_per_device: as given.

    Raises:
        ValueError: there are several.
    """
    found = devices or tf.config.list_logical_devices("GPU")
    if len(found) > 1:
        raise ValueError(
            "`workers_per_device` may be more than 1 on one device only. "
            f"Received: workers_per_device={workers_per_device}, and "
            f"{len(found)} devices. Give `devices` with one of them."
        )
    return devices[0] if devices else None
