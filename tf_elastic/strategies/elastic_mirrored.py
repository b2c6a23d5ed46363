"""Elastic training on several devices of one process."""

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic import core
from tf_elastic import theory
from tf_elastic.optimizers.elastic_parameter import ElasticParameter
from tf_elastic.strategies import conservation
from tf_elastic.strategies.elastic_strategy import ElasticExtended
from tf_elastic.strategies.elastic_strategy import ElasticStrategy
from tf_elastic.strategies.elastic_strategy import check_devices
from tf_elastic.strategies.exchange import Exchange
from tf_elastic.strategies.step_times import time_after


class ElasticMirroredStrategy(ElasticStrategy):
    r"""Trains one model on several devices, each with parameters of its own.

    Use it where you would use `tf.distribute.MirroredStrategy`. Each device
    is a worker: it has its own copy of every variable and of the optimizer's
    state, takes its own steps on its own slice of the batch, and every
    `communication_period` steps (an argument of the optimizer) exchanges with
    the center. `evaluate`, `predict`, `validation_data`, `save`, `export` and
    all callbacks see the center.

    The batch size is the global one, as with every strategy: it is cut into
    as many slices as there are devices.

    Args:
        devices: names such as `["GPU:0", "GPU:1"]`, or None for all GPUs (or
            the CPU where there is none). Logical CPU devices work too; see
            `tf.config.set_logical_device_configuration`.
        exchange: the order in which workers and center move:
            `"jacobi"` (default): all workers at once, each with the center
            as it was (eqs. 2.3, 2.4);
            `"gauss_seidel"`: after the last step of a period the center
            moves first, then the workers to where it now is (eq. 6.3);
            `"round_robin"`: one worker after another, each finding the
            center as those before have left it (Algorithms 1 and 2).
        check_conservation: whether every exchange is checked to leave
            sum(workers) + center as it was (Gauss-Seidel: sum(workers) +
            (1 - beta) * center), to rounding; training ends with an error
            that names the variable if not. For finding bugs: it costs about
            as much as the exchange. Needs beta = p * moving_rate.

    Raises:
        ValueError: `exchange` is unknown, or a device is given twice.

    Example:

    ```python
    strategy = te.strategies.ElasticMirroredStrategy()
    with strategy.scope():
        model = te.models.cifar_convnet()
        model.compile(
            te.optimizers.EAMSGD(0.005, communication_period=10),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.fit(train, validation_data=test)
    ```

    If the workers' loss falls while the center's does not, the center lags:
    raise `beta` or lower `communication_period`.

    Reference:
        Zhang (2016), sections 2.1 to 2.3 and 6.2.
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        exchange: str = "jacobi",
        check_conservation: bool = False,
    ) -> None:
        if exchange not in theory.EXCHANGES:
            raise ValueError(
                f"`exchange` must be one of {theory.EXCHANGES}. "
                f"Received: exchange={exchange!r}."
            )
        check_devices(devices)
        super().__init__(
            ElasticMirroredExtended(
                self, devices, exchange, check_conservation
            )
        )


class ElasticMirroredExtended(ElasticExtended):
    """Each device is a worker; they exchange within the process."""

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        devices: Sequence[str] | None,
        exchange: str,
        check_conservation: bool,
    ) -> None:
        super().__init__(container_strategy, devices)
        self.exchange_scheme = exchange
        self._check_conservation = check_conservation

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""
        return len(self._devices)

    @property
    def local_workers(self) -> range:
        """The workers in this process, by the index of their copies."""
        return range(len(self._devices))

    def worker_gradients(self, grads: Sequence[Any]) -> list[Any]:
        """A worker's own gradients: this replica's, as they are."""
        return list(grads)

    @property
    def gradient_scale(self) -> float:
        """Undoes Keras' division of the loss by the number of replicas."""
        return 1.0 / compat.loss_scale_of(self._num_replicas_in_sync)

    # The exchange.

    def make_exchange(
        self,
        parameters: Sequence[ElasticParameter],
        rates: Callable[[int, Any], core.ElasticRates],
        jit_compile: bool | str,
    ) -> Exchange:
        """Prepares the exchange of an optimizer's parameters.

        Floating variables of the models in this scope that are not trained
        (statistics) follow.
        """
        statistics = self.statistics()
        return Exchange(
            parameters, statistics, self._devices, rates, jit_compile
        )

    @property
    def exchange_moments(self) -> tuple[str, ...]:
        """When an exchange may happen: "before" or "after" a local step.

        Jacobi and round robin exchange the points that the gradient was taken
        at; Gauss-Seidel those that the step has led to.
        """
        after = self.exchange_scheme == "gauss_seidel"
        return ("after",) if after else ("before",)

    def exchange_if(
        self,
        due: tf.Tensor,
        exchange: Exchange,
        clock: tf.Tensor,
        then: Callable[[], Any],
    ) -> None:
        """Exchanges if `due`, in cross-replica context.

        Args:
            due: boolean scalar.
            exchange: what `make_exchange` returned.
            clock: local steps of each worker, integer scalar.
            then: called after the exchange, under the same condition.
        """
        rates = exchange.rates(self.num_workers, clock)

        def run() -> None:
            begin = time_after([])
            checks = contextlib.nullcontext()
            if self._check_conservation:
                checks = conservation.checked(
                    exchange, self.exchange_scheme, rates
                )
            with tf.control_dependencies([begin]), checks:
                scheme = getattr(exchange, self.exchange_scheme)
                scheme(*(tf.convert_to_tensor(r, tf.float64) for r in rates))
            self.timer.exchange_took(begin, time_after(exchange.results()))
            then()

        tf.cond(due, run, lambda: None)
