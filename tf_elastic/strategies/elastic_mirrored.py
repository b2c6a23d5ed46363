"""Elastic training on several devices of one process."""

from collections.abc import Callable
from collections.abc import Sequence

import tensorflow as tf

from tf_elastic import theory
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.admm_exchange import AdmmExchange
from tf_elastic.strategies.device_exchange import DeviceExchange
from tf_elastic.strategies.device_workers import DeviceWorkers
from tf_elastic.strategies.elastic_extended import ElasticExtended
from tf_elastic.strategies.elastic_strategy import ElasticStrategy
from tf_elastic.strategies.elastic_strategy import check_devices
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.rule_exchange import RuleExchange
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.step_times import time_after
from tf_elastic.strategies.virtual.banked_extended import BankedExtended
from tf_elastic.strategies.virtual.banked_extended import one_device


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
        order: the order in which workers and center move:
            `"jacobi"`: all workers at once, each with the center as it was
            (eqs. 2.3, 2.4);
            `"gauss_seidel"`: after the last step of a period the center
            moves first, then the workers to where it now is (eq. 6.3);
            `"round_robin"`: one worker after another, each finding the
            center as those before have left it (Algorithms 1 and 2);
            None (default): the optimizer's own, the first in its row of
            docs/methods.md: `"jacobi"` for the elastic ones.
        check_conservation: whether every exchange is checked to leave
            sum(workers) + center as it was (Gauss-Seidel: sum(workers) +
            (1 - beta) * center), to rounding; training ends with an error
            that names the variable if not. For finding bugs: it costs about
            as much as the exchange. Needs beta = p * moving_rate.
        closing: whether the center is shown with what the workers have done
            since the last exchange when `fit` ends in the middle of a
            period: as an exchange would leave it that does not take place.
            The next `fit` goes on as if nothing had been.
        workers_per_device: how many workers share a device; more than 1 for
            one device only. In each step of `fit` they have their turns, each
            with its slice of the batch. In loops of your own each call of
            `run` that trains is the turn of one worker, on all that it is
            given. Memory grows by weights and optimizer state for each.

    Raises:
        ValueError: `order` is unknown, a device is given twice, or workers
            cannot share one.

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
        order: str | None = None,
        check_conservation: bool = False,
        closing: bool = True,
        workers_per_device: int = 1,
    ) -> None:
        if order is not None and order not in theory.ORDERS:
            raise ValueError(
                f"`order` must be one of {theory.ORDERS}, or None. "
                f"Received: order={order!r}."
            )
        check_devices(devices)
        if type(workers_per_device) is not int or workers_per_device < 1:
            raise ValueError(
                "`workers_per_device` must be an integer of at least 1. "
                f"Received: workers_per_device={workers_per_device!r}."
            )
        if workers_per_device == 1:
            super().__init__(
                ElasticMirroredExtended(
                    self, devices, order, check_conservation, closing
                )
            )
            return
        if check_conservation:
            raise ValueError(
                "`check_conservation` is for workers that have a device each. "
                f"Received: workers_per_device={workers_per_device}."
            )
        device = one_device(devices, workers_per_device)
        super().__init__(
            BankedExtended(self, workers_per_device, device, order, closing)
        )


class ElasticMirroredExtended(DeviceWorkers, ElasticExtended):
    """Each device is a worker; they exchange within the process."""

    holds_center = True

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        devices: Sequence[str] | None,
        order: str | None,
        check_conservation: bool,
        closing: bool,
    ) -> None:
        super().__init__(container_strategy, devices)
        self._closing = closing
        self._asked_order = order
        self._check_conservation = check_conservation

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""
        return len(self._devices)

    @property
    def local_workers(self) -> range:
        """The workers in this process, by the index of their copies."""
        return range(len(self._devices))

    # The exchange.

    def make_exchange(
        self, spec: Spec, jit_compile: bool | str
    ) -> DeviceExchange:
        """Prepares the exchange of an optimizer's parameters.

        Floating variables of the models in this scope that are not trained
        (statistics) follow.

        Raises:
            ValueError: the strategy has no such exchange.
        """
        order = self.order_of(spec.method)
        where = (self.statistics(), self._devices, jit_compile)
        checks = self._check_conservation
        if checks and not spec.rule.answers_difference:
            raise ValueError(
                "`check_conservation` is for elastic exchanges, in which what "
                "the workers give the center gets. Received: an optimizer "
                f"whose exchange is {spec.method}'s. Leave it out."
            )
        if spec.takes_steps:
            return AdmmExchange(spec, *where)
        return RuleExchange(spec, order, checks, *where)

    def narrow(
        self,
        exchange: DeviceExchange,
        spec: Spec,
        indices: Sequence[int],
        jit_compile: bool | str,
    ) -> DeviceExchange:
        """The exchange of a step that trains some of the variables only.

        Args:
            exchange: that of all.
            spec: of it.
            indices: of the parameters that are trained.
            jit_compile: as in `make_exchange`.
        """
        some = [spec.parameters[k] for k in indices]
        narrowed = self.make_exchange(
            spec._replace(parameters=some), jit_compile
        )
        if exchange.closing is not None:
            narrowed.can_close()
        return narrowed

    def prepare_closing(self, exchange: DeviceExchange) -> None:
        """Tells that training may end between two exchanges."""
        if self._closing:
            exchange.can_close()

    def close(
        self, exchange: DeviceExchange, clock: tf.Tensor, count: tf.Tensor
    ) -> None:
        """Training has ended for now: shows what an exchange would make.

        Args:
            exchange: of the last step.
            clock: local steps of each worker, integer scalar.
            count: exchanges so far, integer scalar.
        """
        if self._closing:
            # No step of training reads these, so that nothing is taken back.
            exchange.follow(exchange.followers)
        closing = exchange.closing
        if closing is not None and not bool(closing.is_closed.numpy()):
            exchange.close(clock, count)

    def follow(self, variables: Sequence[ElasticVariable], step: Step) -> None:
        """Lets centers be the mean of workers when a period has ended."""
        optimizer, exchange, _ = step.optimizers[0]
        exchange.followers = list(variables)
        tf.cond(
            optimizer.period_ends(),
            lambda: exchange.follow(variables),
            lambda: None,
        )

    def exchange_if(
        self,
        moment: str,
        due: tf.Tensor,
        exchange: DeviceExchange,
        clock: tf.Tensor,
        count: tf.Tensor,
        then: Callable[[], None],
    ) -> None:
        """Exchanges if `due`, in cross-replica context.

        Args:
            moment: of those of the exchange.
            due: boolean scalar.
            exchange: what `make_exchange` returned.
            clock: local steps of each worker, integer scalar.
            count: exchanges before, integer scalar.
            then: called after the exchange, under the same condition.
        """
        del moment

        def run() -> None:
            begin = time_after([])
            with tf.control_dependencies([begin]):
                exchange.run(clock, count)
            self.timer.exchange_took(begin, time_after(exchange.results()))
            then()

        def reopen_and_run() -> None:
            exchange.closing.reopen_if_closed()
            tf.cond(due, run, lambda: None)

        if exchange.closing is None:
            tf.cond(due, run, lambda: None)
        else:
            closed = exchange.closing.is_closed.read_value()
            tf.cond(tf.logical_or(due, closed), reopen_and_run, lambda: None)
