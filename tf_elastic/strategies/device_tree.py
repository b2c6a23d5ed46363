"""A process whose devices are elastic workers under a cluster's center."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.strategies import views
from tf_elastic.strategies.device_tree_exchange import DeviceTreeExchange
from tf_elastic.strategies.device_tree_exchange import DeviceTreeExchanges
from tf_elastic.strategies.device_workers import DeviceWorkers
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.following import follow_mean
from tf_elastic.strategies.multi_worker_extended import (
    ElasticMultiWorkerExtended,
)
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.step_times import time_after
from tf_elastic.strategies.stores import Create
from tf_elastic.strategies.stores import NestedStore
from tf_elastic.strategies.stores import WorkerStore


class DeviceTreeExtended(DeviceWorkers, ElasticMultiWorkerExtended):
    """Each device is a worker of a local center, that a worker of the cluster.

    Args:
        container_strategy: whose `extended` this is.
        configuration: of the cluster.
        order: of the devices, one of `core.orders`; None for each optimizer's
            own.
        outer_period: see `DeviceTreeExchange`.
        **kwargs: of `ElasticMultiWorkerExtended`.
    """

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        configuration: ClusterConfiguration,
        order: str | None,
        outer_period: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(container_strategy, configuration, **kwargs)
        self.local_workers = range(len(self._devices))
        self._asked_order = order
        self._exchanges = DeviceTreeExchanges(
            self.order_of,
            outer_period,
            self._new_clock,
            protocol=kwargs["protocol"],
            compression=kwargs["compression"],
            devices=self._devices,
            num_shards=len(configuration.centers),
        )

    def _new_clock(self) -> tf.Variable:
        with (
            self.plain_variables(),
            tf.init_scope(),
            tf.device("/device:CPU:0"),
        ):
            return tf.Variable(-1, dtype=tf.int64)

    def make_store(
        self,
        create: Create,
        arguments: Mapping[str, Any],
        has_center: Callable[[tf.DType], bool],
        is_common: bool,
    ) -> WorkerStore:
        """See `ElasticExtended`."""
        del is_common
        return NestedStore.make(create, arguments, has_center)

    # What the optimizers ask for.

    def worker_gradients(self, grads: Sequence[Gradient]) -> list[Gradient]:
        """See `DeviceWorkers`."""
        self._check_trains()
        return super().worker_gradients(grads)

    def worker_of(self, replica: int) -> int:
        """See `ElasticExtended`: each device is a worker."""
        return self.first_seed_number() + replica

    def takes_step(self) -> tf.Tensor | None:
        """See `ElasticExtended`: a device without rows takes none."""
        return views.has_rows()

    def follow(self, variables: Sequence[ElasticVariable], step: Step) -> None:
        """What is not exchanged is this process' own: its workers' mean."""
        exchanged = self._optimizers.exchanged()
        own = [v for v in variables if id(v) not in exchanged]
        optimizer, *_ = step.optimizers[0]
        if own:
            tf.cond(
                optimizer.period_ends(),
                lambda: follow_mean(own, len(self._devices)),
                lambda: None,
            )

    def exchange_if(
        self,
        moment: str,
        due: tf.Tensor,
        exchange: DeviceTreeExchange,
        clock: tf.Tensor,
        count: tf.Tensor,
        then: Callable[[], None],
    ) -> None:
        """Exchanges if `due`, in cross-replica context: inside, then outside.

        For arguments see `ElasticMultiWorkerExtended`.
        """

        def run() -> None:
            begin = time_after([])
            with tf.control_dependencies([begin]):
                exchange.run_inside(clock, count)
            self.timer.exchange_took(begin, time_after(exchange.results()))
            then()

        if moment in exchange.inside.moments:
            is_new = exchange.is_new(clock)
            tf.cond(tf.logical_and(due, is_new), run, lambda: None)
        if moment in exchange.outside.moments:
            super().exchange_if(
                moment,
                tf.logical_and(due, exchange.is_due_outside(clock)),
                exchange,
                clock,
                count,
                lambda: None,
            )

    def close(
        self, exchange: DeviceTreeExchange, clock: tf.Tensor, count: tf.Tensor
    ) -> None:
        """Training is over for now: the center gets what it has not yet.

        First the local center gets it; see `ElasticMultiWorkerExtended`.
        """
        if self._closing and bool(exchange.is_new(clock)):
            exchange.run_inside(
                tf.convert_to_tensor(clock), tf.convert_to_tensor(count)
            )
        super().close(exchange, clock, count)
