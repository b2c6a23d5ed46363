"""What the optimizers have in common whose workers push to the center."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import theory
from tf_elastic.core import momentum_control
from tf_elastic.core import rules
from tf_elastic.optimizers import worker_copies
from tf_elastic.optimizers.center_optimizer import CenterOptimizer
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import vector_of
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.strategy_interface import ElasticExtended
from tf_elastic.optimizers.strategy_interface import Gradient


class PushOptimizer(CenterOptimizer):
    """Base class: workers push messages, the center answers with a point.

    A subclass says in `center_rule` what is pushed and what the center does
    with it, and in `push_rates` by which numbers.

    For its arguments see `CenterOptimizer`.
    """

    def __init__(self, learning_rate: LearningRate, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self._slots: list[keras.Variable] | None = None

    @property
    def _slot_kind(self) -> str:
        """What a worker keeps to send: its gradient, or its last reading."""
        return self.center_rule.sends

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push, by name; see `core.rules`.

        Args:
            num_workers: p at the moment, which the center adds by itself.
            numbers: what `push_numbers` has given: floats or scalar tensors.
        """
        del num_workers, numbers
        return {}

    def push_numbers(self, clock: tf.Tensor) -> list[tf.Tensor]:
        """What the rates of a push depend on, as scalars.

        Args:
            clock: the worker's local steps, the one just taken among them.
        """
        del clock
        return []

    def _numbers(self, clock: tf.Tensor) -> tf.Tensor:
        return vector_of(self.push_numbers(clock))

    def _learning_rate_of(self, clock: tf.Tensor) -> tf.Tensor:
        """The rate of the step that has just been taken."""
        rate = self._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            return rate(clock - 1)
        return rate() if callable(rate) else rate.value

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        super()._build_variables(variables)
        if self._slot_kind == rules.INCREMENT:
            self._slots = worker_copies.copies_of(self, variables, "read")
        elif self._slot_kind == rules.GRADIENT:
            self._slots = self.add_optimizer_variables(variables, "gradient")
            worker_copies.rest_with(self, variables, self._slots)

    def _idle_step(self, trainable_variables: Sequence | None) -> None:
        """A worker without rows has no gradient that it could bring."""
        if self._slot_kind != rules.GRADIENT:
            return
        for variable in trainable_variables or self._trainable_variables:
            slot = self._slots[self._get_variable_index(variable)]
            self.assign(slot, tf.zeros_like(slot))

    def _exchange_spec(
        self, variables: Sequence[keras.Variable]
    ) -> ExchangeSpec:
        return ExchangeSpec(
            self.method_name,
            self.center_rule,
            [
                ExchangedVariable(
                    compat.native_variable(variable),
                    slot=(
                        None
                        if self._slots is None
                        else compat.native_variable(self._slots[k])
                    ),
                    parent=self._parent_of(k),
                )
                for k, variable in enumerate(variables)
            ],
            lambda p, clock, numbers: self.push_rates(p, numbers),
            self._numbers,
            self._center_numbers,
            self.communication_period,
            self._calls_per_step(),
        )


class LastPushes(NamedTuple):
    """What the workers of one process have pushed last, one after another.

    Coordinates are of all trainable variables, as float64.
    """

    count: int  # pushes of each worker so far
    center: np.ndarray  # after these pushes, shape (d,)
    points: np.ndarray  # where each worker goes on from, shape (p, d)
    gradients: np.ndarray  # what each has pushed, shape (p, d)
    learning_rate: float  # of these pushes, before what the rule makes of it
    momentum: float
    resolution: float  # relative rounding of the coarsest variable


class GradientPush(PushOptimizer):
    """Base class: every step's gradient is pushed, and nothing else moves.

    Args:
        learning_rate: float, schedule or callable, at least 0.
        momentum: of the center, in [0, 1); None for 0.9 / p, of the p workers
            that there are when the optimizer is built. A variable, so that
            it can change while training goes on: `optimizer.momentum = 0.8`.
        jit_compile: see `CenterOptimizer`.
        **kwargs: as in `keras.optimizers.Optimizer`, but for `weight_decay`.

    Raises:
        ValueError: an argument is out of its range or has no meaning here.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        momentum: float | None,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        if momentum is not None:
            check_momentum("momentum", momentum)
        if kwargs.get("weight_decay") is not None:
            raise ValueError(
                f"`weight_decay` has no meaning for {type(self).__name__}: "
                "its workers move nothing, and what they send is a gradient. "
                f"Received: weight_decay={kwargs['weight_decay']}. Give the "
                "layers a `kernel_regularizer`."
            )
        if "communication_period" in kwargs:
            raise ValueError(
                f"`communication_period` has no meaning for "
                f"{type(self).__name__}: every gradient is pushed. Received: "
                f"communication_period={kwargs['communication_period']}. "
                "Leave it out, or use `gradient_accumulation_steps`."
            )
        super().__init__(
            learning_rate,
            communication_period=1,
            jit_compile=jit_compile,
            **kwargs,
        )
        self._momentum_is_default = momentum is None
        self._momentum = keras.Variable(
            momentum_control.default_momentum(1)
            if momentum is None
            else momentum,
            name="momentum",
            dtype=keras.config.floatx(),
            trainable=False,
            aggregation="only_first_replica",
        )
        self._track_variable(self._momentum)

    @property
    def momentum(self) -> keras.Variable:
        """The center's momentum."""
        return self._momentum

    @momentum.setter
    def momentum(self, momentum: float) -> None:
        check_momentum("momentum", momentum)
        self._momentum_is_default = False
        self._momentum.assign(momentum)

    def _prepare(self, extended: ElasticExtended) -> None:
        super()._prepare(extended)
        if self._momentum_is_default:
            self._momentum.assign(
                momentum_control.default_momentum(extended.num_workers)
            )
        protocol = self.method.orders[0]
        if extended.overlaps(self.method_name):
            protocol = "overlapped"
        rate, rule = self._learning_rate, self.method.advised_as
        # A schedule's rate is not known, nor what the theory says of others.
        if isinstance(rate, keras.Variable) and rule is not None:
            theory.warn_if_late(
                rule,
                learning_rate=float(rate.numpy()),
                momentum=float(self._momentum.numpy()),
                num_workers=extended.num_workers,
                protocol=protocol,
            )

    def push_numbers(self, clock: tf.Tensor) -> list[tf.Tensor]:
        """Learning rate and momentum of a push."""
        return [self._learning_rate_of(clock), self._momentum.value]

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`."""
        del num_workers
        return {"learning_rate": numbers[0], "momentum": numbers[1]}

    def last_pushes(self, most: int | None = None) -> LastPushes:
        """What the workers have pushed last, in eager code.

        Args:
            most: coordinates that are looked at, evenly spread over each
                variable; None for all.

        Raises:
            ValueError: the optimizer is not built, or the center is in
                another process.
        """
        extended = self._built_extended()
        if not extended.holds_center:
            raise ValueError(
                "The pushes of other processes are not known here. Received: "
                f"strategy={type(self._distribution_strategy).__name__}."
            )
        parameters = self._exchange.parameters
        size = sum(p.variable.shape.num_elements() for p in parameters)
        every = -(-size // (most or size))

        def flat(values: Sequence[tf.Tensor]) -> np.ndarray:
            return np.concatenate(
                [
                    tf.reshape(value, [-1])[::every].numpy().astype(np.float64)
                    for value in values
                ]
            )

        workers = extended.local_workers
        return LastPushes(
            int(self.center_step.numpy()),
            flat([p.variable.store.read_center(0) for p in parameters]),
            np.stack(
                [
                    flat([p.variable.store.read(i) for p in parameters])
                    for i in workers
                ]
            ),
            np.stack(
                [
                    flat([p.slot.store.read(i) for p in parameters])
                    for i in workers
                ]
            ),
            float(
                self._learning_rate_of(tf.convert_to_tensor(self.iterations))
            ),
            float(self._momentum.numpy()),
            max(
                float(np.spacing(p.variable.dtype.as_numpy_dtype(1)))
                for p in parameters
            ),
        )

    def update_step(
        self,
        gradient: Gradient,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """Keeps the gradient, for the push that follows; a sparse one filled.

        The step is the center's.
        """
        del learning_rate
        slot = self._slots[self._get_variable_index(variable)]
        self.assign(slot, tf.convert_to_tensor(gradient))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        del config["communication_period"]
        config.pop("weight_decay", None)
        momentum = None
        if not self._momentum_is_default:
            momentum = float(self._momentum.numpy())
        return {**config, "momentum": momentum}


def check_momentum(name: str, momentum: object) -> None:
    """Refuses a momentum that is not in [0, 1).

    Raises:
        ValueError: it is not.
    """
    if not (isinstance(momentum, (int, float)) and 0 <= momentum < 1):
        raise ValueError(
            f"`{name}` must be a number in [0, 1). "
            f"Received: {name}={momentum!r}."
        )
