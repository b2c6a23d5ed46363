"""What all optimizers of the package have in common."""

import functools
import math
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers import registry
from tf_elastic.optimizers import worker_state
from tf_elastic.optimizers.center_average import average_center
from tf_elastic.optimizers.compiled import FusedUpdate
from tf_elastic.optimizers.compiled import check_jit_compile
from tf_elastic.optimizers.protocol import ElasticExtended

_NEEDS_STRATEGY = (
    "An elastic optimizer needs an elastic strategy, which holds the workers "
    "and the center. Received: {received}. Create model and optimizer inside "
    "`with tf_elastic.strategies.ElasticMirroredStrategy().scope():` (it also "
    "works on one device)."
)

_NO_MEETING = (
    "An elastic exchange must be able to reach all devices, so the optimizer "
    "cannot be called from inside of a compiled or nested function. Received: "
    "a call inside of another `tf.function`, a control-flow branch, or "
    "`model.compile(jit_compile=True)`. Leave "
    '`jit_compile="auto"` in `compile` (the optimizer compiles its own '
    "update), and do not decorate `train_step`."
)


class ShortTrainingWarning(UserWarning):
    """Training has ended before workers and center have met."""


class CenterOptimizer(keras.optimizers.Optimizer):
    r"""Base class: local steps of workers, and exchanges with a center.

    A subclass writes the local step as Keras has it, in
    `update_step(gradient, variable, learning_rate)`, for one worker, and says
    in `_exchange_spec` what is exchanged. The gradient is the worker's own;
    nothing is summed over replicas. It is decorated by `register`, unless a
    base of it is and all of that holds for it too.

    Args:
        learning_rate: float, schedule or callable, at least 0.
        communication_period: :math:`\tau`, the local steps between two
            exchanges, an integer >= 1; None for no exchange at all.
        jit_compile: whether update and exchange are compiled by XLA: True,
            False or "auto" (default: where the device can).
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema,
            ema_momentum, loss_scale_factor, gradient_accumulation_steps,
            name: as in `keras.optimizers.Optimizer`. Clipping acts on each
            worker's own gradient; `use_ema` averages the center.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        communication_period: int | None = 10,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        registry.of_class(type(self))  # Refuses those that have none.
        _check_learning_rate(learning_rate)
        _check_period(communication_period)
        check_jit_compile(jit_compile)
        if kwargs.get("ema_overwrite_frequency") is not None:
            raise ValueError(
                "`ema_overwrite_frequency` is not supported: the average is "
                "taken of the center, and overwriting it between exchanges "
                "would pull all workers back. Received: "
                "ema_overwrite_frequency="
                f"{kwargs['ema_overwrite_frequency']}. Leave it out; the "
                "average is taken over at the end of `fit`, and "
                "`keras.callbacks.SwapEMAWeights` shows it in validation."
            )
        super().__init__(learning_rate, **kwargs)
        self.communication_period = communication_period
        self.jit_compile = jit_compile
        self._fused = FusedUpdate(jit_compile)
        self._untrained_variables: list[Any] = []
        self._exchange = None
        self._spec = None
        # The exchange of the step that was built last, and of steps that
        # train some of the variables only, by the indices of these.
        self._exchange_in_use = None
        self._exchanges_of_some: dict[tuple[int, ...], Any] = {}
        self._center_step = None
        # What the center keeps beside what is shown, where it is here.
        self._center_slots: dict[str, list[keras.Variable]] = {}
        self._closing_variables: list[tf.Variable] = []
        self._finalized_at = 0

    @property
    def method(self) -> registry.Registration:
        """What the method does, needs and is good for."""
        return registry.of_class(type(self))

    @property
    def method_name(self) -> str:
        """The name of the registered class: this one, or its nearest base."""
        return self.method.name

    # Building.

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the optimizer's variables, one copy for each worker.

        Args:
            variables: the model's trainable variables.

        Raises:
            ValueError: the model was not built in the strategy's scope, the
                strategy has no such exchange, or arguments contradict each
                other.

        Warns:
            theory.StabilityWarning: the settings cannot converge.
        """
        if self.built:
            return
        if not compat.in_replica_context(self._distribution_strategy):
            self._build(variables)
            return

        # A step of one's own, that nobody has built the optimizer for.
        def build(strategy: tf.distribute.Strategy) -> None:
            del strategy
            with tf.init_scope():
                self._build(variables)

        self._in_cross_replica(build)

    def _build(self, variables: Sequence[keras.Variable]) -> None:
        extended = self._distribution_strategy.extended
        if not self.is_elastic:
            # A saved model may be loaded to be looked at without a strategy.
            self._check_no_scope(variables)
            self._build_variables(variables)
            return
        self._check_scope(extended, variables)
        self._check_num_workers(extended.num_workers)
        self._prepare(extended)
        with self._distribution_strategy.scope(), extended.worker_variables():
            self._build_variables(variables)
        for variable in variables:
            compat.native_variable(variable).is_trained = True
        extended.follow_clock(self._stepper())
        self._spec = self._exchange_spec(variables)
        self._exchange = extended.make_exchange(self._spec, self.jit_compile)
        self._exchange_in_use = self._exchange
        if (self.communication_period or 1) > 1 and not self.use_ema:
            extended.prepare_closing(self._exchange)
            closing = self._exchange.closing
            if closing is not None:
                # Attributes for the same reason as below.
                self._closing_variables = [closing.is_closed, *closing.held]
        # An attribute, so that a tf.train.Checkpoint finds them (Keras' seed
        # generators are not among what it finds through the model).
        self._untrained_variables = extended.untrained_variables()

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        """Creates what the update needs. Subclasses add their slots."""
        super().build(variables)
        self._center_step = self.add_variable(
            (), dtype="int64", name="center_step"
        )
        rule = self.center_rule
        extended = self._distribution_strategy.extended
        if getattr(extended, "holds_center", True):
            self._center_slots = {
                name: self._center_slot(rule, name, variables)
                for name in rule.init(np.ones(1))
                if name != rule.shown
            }

    @property
    def center_rule(self) -> rules.Rule:
        """What workers send, and what the center does with it."""
        raise NotImplementedError

    def _center_slot(
        self, rule: rules.Rule, name: str, variables: Sequence[keras.Variable]
    ) -> list[keras.Variable]:
        """What a rule keeps at the center by one name."""
        own = name if name == "center" else f"center_{name}"
        if np.all(rule.init(np.ones(1))[name] == 0):
            slots = self.add_optimizer_variables(variables, own)
            self._rest_with(variables, slots)
            return slots
        return self._copies_of(variables, own, lambda x: rule.init(x)[name])

    def _copies_of(
        self,
        variables: Sequence[keras.Variable],
        name: str,
        initial: Callable[[Any], Any] = lambda x: x,
    ) -> list[keras.Variable]:
        """Variables that begin by what is made of the model's."""

        def beginning(variable: keras.Variable) -> Any:
            return lambda shape, dtype=None: tf.cast(
                initial(compat.native_variable(variable).read_value()), dtype
            )

        copies = [
            self.add_variable_from_reference(
                variable, name, initializer=beginning(variable)
            )
            for variable in variables
        ]
        self._begin_anew_with(variables, copies, initial)
        return copies

    def _begin_anew_with(
        self,
        variables: Sequence[keras.Variable],
        kept: Sequence[keras.Variable],
        initial: Callable[[Any], Any] = lambda x: x,
    ) -> None:
        """Lets what is kept start anew when a model's variables are set."""
        if not self.is_elastic:
            return
        for variable, follower in zip(variables, kept, strict=True):
            compat.native_variable(variable).begins_anew_with(
                compat.native_variable(follower), initial
            )

    def _parent_of(self, k: int) -> dict[str, Any]:
        """What the center keeps of a variable, by its number."""
        return {
            name: compat.native_variable(slots[k])
            for name, slots in self._center_slots.items()
        }

    def _prepare(self, extended: ElasticExtended) -> None:
        """Checks and fills in what depends on the strategy."""

    def _exchange_spec(self, variables: Sequence[keras.Variable]) -> Any:
        """What is exchanged, and how: see `exchange_spec`."""
        raise NotImplementedError

    def _check_num_workers(self, num_workers: int) -> None:
        """Refuses numbers of workers that the method is not made for."""
        if self.method.one_worker and num_workers != 1:
            raise ValueError(
                f"{type(self).__name__} is a sequential method, for one "
                f"worker. Received: a strategy with {num_workers} workers. Use "
                '`ElasticMirroredStrategy(["CPU:0"])` (or one GPU), or '
                "`EASGD` for several workers."
            )

    def _check_scope(
        self, extended: ElasticExtended, variables: Sequence[keras.Variable]
    ) -> None:
        for variable in variables:
            if not extended.is_elastic_variable(
                compat.native_variable(variable)
            ):
                raise ValueError(
                    "The model must be built inside the scope of the strategy "
                    "that trains it. Received: variable="
                    f"{getattr(variable, 'path', variable.name)!r}, created "
                    "outside of it. Move the model's construction (and "
                    "`model.compile`) into `with strategy.scope():`."
                )

    def _check_no_scope(self, variables: Sequence[keras.Variable]) -> None:
        """Refuses a model of an elastic scope, where this one has none."""
        for variable in variables:
            native = compat.native_variable(variable)
            strategy = getattr(native, "distribute_strategy", None)
            extended = getattr(strategy, "extended", None)
            if getattr(extended, "is_elastic", False):
                raise ValueError(
                    "The optimizer must be created inside the scope of the "
                    "strategy that trains the model. Received: "
                    f"{type(self).__name__}, created outside of it, for a "
                    f"model of {type(strategy).__name__}. Create it (and call "
                    "`model.compile`) inside `with strategy.scope():`."
                )

    # Training.

    def worker_points(self) -> list[np.ndarray]:
        """The points x of this process' workers, in eager code.

        Returns:
            For each trainable variable an array of shape (p, ...), p being
            the workers in this process.

        Raises:
            ValueError: the optimizer is not built.
        """
        workers = self._built_extended().local_workers
        return [
            np.stack([parameter.point(i).numpy() for i in workers])
            for parameter in self._exchange.parameters
        ]

    def elastic_distances(self) -> np.ndarray:
        r"""How far this process' workers are from the center, in eager code.

        Returns:
            :math:`|x^i - \tilde x|` over all trainable variables, L2,
            shape (p,), float64.

        Raises:
            ValueError: the optimizer is not built.
        """
        squares = [
            np.sum(np.square(difference), axis=1)
            for difference in (
                (points - self._center(k))
                .reshape(len(points), -1)
                .astype(np.float64)
                for k, points in enumerate(self.worker_points())
            )
        ]
        return np.sqrt(np.sum(squares, axis=0))

    def _center(self, k: int) -> np.ndarray:
        """The center of parameter k, whatever it shows."""
        parent = getattr(self._exchange.parameters[k], "parent", {})
        if "center" in parent:  # Its time average is shown.
            return parent["center"].worker_values()[0]
        if self._exchange.closing is not None:
            return self._exchange.closing.center(k)
        return self._exchange.parameters[k].variable.numpy()

    def _built_extended(self) -> ElasticExtended:
        if self._exchange is None:
            raise ValueError(
                f"{type(self).__name__} has no workers yet. Train a step, or "
                "call `optimizer.build(model.trainable_variables)` in the "
                "scope of an elastic strategy."
            )
        return self._distribution_strategy.extended

    @property
    def center_step(self) -> keras.Variable | None:
        """How many exchanges the center has seen; None before `build`."""
        return self._center_step

    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Takes one local step on each worker, and exchanges if it is time.

        Args:
            grads: the worker's gradients, one for each variable.
            trainable_variables: the variables the optimizer was built with.

        Raises:
            ValueError: the strategy is not elastic.
            RuntimeError: called where devices cannot meet, such as inside of
                `model.compile(jit_compile=True)`.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            self.build(trainable_variables)
        extended = self._replica_extended()
        extended.training_begins()
        exchange = self._exchange_of(trainable_variables)
        grads = extended.worker_gradients(grads)
        with tf.control_dependencies([g for g in grads if g is not None]):
            self._exchange_if_due("before", exchange)
        self._step_if_rows(grads, trainable_variables)
        self._exchange_if_due("after", exchange)
        if self.use_ema:
            self._average_center(extended)
        self._in_cross_replica(
            self._step_ended,
            exchange=exchange,
            variables=trainable_variables or self._trainable_variables,
        )

    def _exchange_of(self, variables: Sequence[keras.Variable] | None) -> Any:
        """The exchange of a step that trains these variables."""
        exchange = self._exchange
        if variables is not None and exchange is not None:
            self._check_variables_are_known(variables)
            indices = tuple(sorted(map(self._get_variable_index, variables)))
            if len(indices) < len(exchange.parameters):
                if indices not in self._exchanges_of_some:
                    extended = self._distribution_strategy.extended
                    self._exchanges_of_some[indices] = extended.narrow(
                        exchange, self._spec, indices, self.jit_compile
                    )
                exchange = self._exchanges_of_some[indices]
        self._exchange_in_use = exchange
        return exchange

    def _step_if_rows(
        self, grads: Sequence[Any], trainable_variables: Sequence | None
    ) -> None:
        """One step of this replica's worker, if it has got any rows."""
        extended = self._distribution_strategy.extended

        def step() -> None:
            with extended.local_updates():
                self._local_step(grads, trainable_variables)

        def idle() -> None:
            with extended.local_updates():
                self._idle_step(trainable_variables)

        takes = extended.takes_step()
        if takes is None:
            step()
        else:
            tf.cond(takes, step, idle)

    def _idle_step(self, trainable_variables: Sequence | None) -> None:
        """What a worker does that has got no rows: nothing."""

    def _step_ended(
        self,
        strategy: tf.distribute.Strategy,
        exchange: Any,
        variables: Sequence[Any],
    ) -> None:
        """All workers have taken their step; in cross-replica context."""
        strategy.extended.optimizer_applies(
            self, exchange, [compat.native_variable(v) for v in variables]
        )
        strategy.extended.step_ended(exchange)

    def _local_step(
        self, grads: Sequence[Any], trainable_variables: Sequence | None
    ) -> None:
        """One step of this replica's worker: all that Keras does for one."""
        super().apply(grads, trainable_variables)

    def _replica_extended(self) -> ElasticExtended:
        strategy = self._distribution_strategy
        if not getattr(strategy.extended, "is_elastic", False):
            raise ValueError(
                _NEEDS_STRATEGY.format(
                    received=f"strategy={type(strategy).__name__}"
                )
            )
        if not compat.in_replica_context(strategy):
            raise ValueError(
                "`apply` and `apply_gradients` must be called for each "
                "replica. Received: a call outside of `strategy.run`. Use "
                "`model.fit`, or call it in a function passed to "
                "`strategy.run`."
            )
        return strategy.extended

    def _exchange_if_due(self, moment: str, exchange: Any) -> None:
        if (
            self.communication_period is None
            or exchange is None
            or moment not in exchange.moments
        ):
            return
        clock, is_step = self.local_clock(moment)
        due = tf.logical_and(is_step, self._is_due(clock))
        self._in_cross_replica(
            self._exchange_across, due, clock, exchange=exchange
        )

    @property
    def is_elastic(self) -> bool:
        """Whether it was made in the scope of an elastic strategy."""
        strategy = self._distribution_strategy
        return getattr(strategy.extended, "is_elastic", False)

    def _rest_with(
        self, variables: Sequence[keras.Variable], slots: Sequence
    ) -> None:
        """Lets slots be zero from when a variable is trained no more."""
        if not self.is_elastic:
            return
        for variable, slot in zip(variables, slots, strict=True):
            if slot is not None:
                compat.native_variable(variable).begins_anew_with(
                    compat.native_variable(slot),
                    tf.zeros_like,
                    only_at_rest=True,
                )

    def _is_due(self, clock: tf.Tensor) -> tf.Tensor:
        """Whether a worker exchanges at this count of local steps."""
        return clock % self.communication_period == 0

    def period_ends(self) -> tf.Tensor:
        """Whether the first worker's step just taken ends a period.

        In cross-replica context; boolean scalar.
        """
        if self.communication_period is None:
            return tf.constant(False)
        clock, is_step = self.local_clock("after")
        return tf.logical_and(
            is_step, tf.equal(clock % self.communication_period, 0)
        )

    def _in_cross_replica(
        self, function: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Calls `function(strategy, *args, **kwargs)` once for all replicas.

        Keyword arguments are the same in all of them.
        """
        if compat.in_compiled_graph():
            raise RuntimeError(_NO_MEETING)
        try:
            tf.distribute.get_replica_context().merge_call(
                functools.partial(function, **kwargs), args
            )
        except RuntimeError as error:
            if "`merge_call` called" not in str(error):
                raise
            raise RuntimeError(_NO_MEETING) from error

    def local_clock(self, moment: str) -> tuple[tf.Tensor, tf.Tensor]:
        """The worker's count of local steps, and whether one is taken now.

        Args:
            moment: "before" or "after" the local step.
        """
        calls = tf.convert_to_tensor(self._stepper()._iterations)
        every = self._calls_per_step()
        next_call = calls + 1 if moment == "before" else calls
        return calls // every, next_call % every == 0

    def _stepper(self) -> keras.optimizers.Optimizer:
        """The optimizer whose clock counts the local steps."""
        return self

    def _calls_per_step(self) -> int:
        """How many calls of `apply` make a local step."""
        return self.gradient_accumulation_steps or 1

    def _exchange_across(
        self,
        strategy: tf.distribute.Strategy,
        due: Any,
        clock: Any,
        exchange: Any,
    ) -> None:
        """In cross-replica context; the workers' clocks agree here."""
        first_due, first_clock = (
            strategy.experimental_local_results(value)[0]
            for value in (due, clock)
        )
        strategy.extended.exchange_if(
            first_due,
            exchange,
            first_clock,
            tf.convert_to_tensor(self._center_step.value),
            then=lambda: self._exchanged(strategy.extended, exchange),
        )

    def _exchanged(self, extended: ElasticExtended, exchange: Any) -> None:
        self._center_step.assign_add(1)
        if self.use_ema:
            extended.refresh_center(exchange)

    # The local step, as Keras calls it.

    @property
    def _clips(self) -> bool:
        return any((self.clipnorm, self.clipvalue, self.global_clipnorm))

    def _own_scale(self) -> float:
        return self._distribution_strategy.extended.gradient_scale

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        if not self._clips:
            return list(grads)
        own = scale_gradients(grads, self._own_scale())
        return super()._clip_gradients(own)

    def _backend_update_step(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: Any,
    ) -> None:
        scale = 1.0 if self._clips else self._own_scale()

        def step(grads, variables, learning_rate):
            for grad, variable in zip(
                scale_gradients(grads, scale), variables, strict=True
            ):
                grad = tf.cast(grad, variable.dtype)
                rate = tf.cast(learning_rate, variable.dtype)
                self.update_step(grad, variable, rate)

        self._fused(
            step, grads, trainable_variables, learning_rate, replica_device()
        )

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Ends training for now: Keras calls it at the end of `fit`.

        With `use_ema` the average of the center takes the model's place. Else,
        in the middle of a period, the center shows what an exchange would
        make of it; the next step goes on without it. In a cluster the worker
        brings what it has.

        Warns:
            ShortTrainingWarning: there were fewer steps than a period has.
        """
        super().finalize_variable_values(var_list)
        if not self.is_elastic or self._exchange_in_use is None:
            return
        clock, _ = self.local_clock("after")
        steps = int(clock) - self._finalized_at
        self._finalized_at = int(clock)
        period = self.communication_period
        if period is None or int(clock) == 0:
            return
        if 0 < steps < period:
            warnings.warn(
                f"Training has ended after {steps} steps, and workers and "
                f"center exchange every {period}: the center may know little "
                "of them. Received: communication_period="
                f"{period}. Train for longer, or lower it.",
                ShortTrainingWarning,
                stacklevel=3,
            )
        extended = self._distribution_strategy.extended
        exchange = self._exchange_in_use
        if (
            not extended.holds_center
            or "before" in exchange.moments
            or int(clock) % period
        ):
            extended.close(exchange, clock, self._center_step.value)

    # The average of the center.

    def _update_model_variables_moving_average(
        self, trainable_variables: Sequence[keras.Variable]
    ) -> None:
        """Nothing yet: an exchange may follow the local step."""

    def _average_center(self, extended: ElasticExtended) -> None:
        """Takes the center as it is at the end of a step into its average."""
        calls = tf.convert_to_tensor(self._iterations)  # this one among them
        with extended.center_view():
            average_center(
                self._model_variables_moving_average,
                self._trainable_variables,
                self.ema_momentum,
                calls <= self._calls_per_step(),
            )

    def _overwrite_model_variables_with_average_value(
        self, trainable_variables: Sequence[keras.Variable]
    ) -> None:
        for variable in trainable_variables:
            index = self._get_variable_index(variable)
            variable.assign(self._model_variables_moving_average[index])

    # Saving.

    def save_own_variables(self, store: Any) -> None:
        """Writes the state of all workers: points, slots, clocks."""
        worker_state.save(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote."""
        worker_state.load(self, store)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        del config["ema_overwrite_frequency"]
        config.update(
            communication_period=self.communication_period,
            jit_compile=self.jit_compile,
        )
        return config


def assign_sgd_step(
    optimizer: keras.optimizers.Optimizer,
    gradient: Any,
    variable: Any,
    learning_rate: Any,
) -> None:
    """One SGD step of one worker's variable; a sparse one row by row."""
    if isinstance(gradient, tf.IndexedSlices):
        step = core.sgd_step(0.0, gradient.values, learning_rate)
        optimizer.assign_add(
            variable, tf.IndexedSlices(step, gradient.indices)
        )
    else:
        optimizer.assign(
            variable, core.sgd_step(variable, gradient, learning_rate)
        )


def scale_gradients(grads: Sequence[Any], scale: float) -> list[Any]:
    """Multiplies gradients, dense, sparse or None, by a number."""
    if scale == 1.0:
        return list(grads)
    return [
        None
        if grad is None
        else tf.math.scalar_mul(tf.constant(scale, grad.dtype), grad)
        for grad in grads
    ]


def replica_device() -> str:
    """The device of the replica that runs now."""
    devices = tf.distribute.get_strategy().extended.worker_devices
    return devices[compat.current_replica_id()]


def _check_learning_rate(learning_rate: Any) -> None:
    if isinstance(learning_rate, (int, float)) and not (
        math.isfinite(learning_rate) and learning_rate >= 0
    ):
        raise ValueError(
            "`learning_rate` must be finite and not negative. "
            f"Received: learning_rate={learning_rate}."
        )


def _check_period(period: int | None) -> None:
    is_integer = isinstance(period, int) and not isinstance(period, bool)
    if period is not None and not (is_integer and period >= 1):
        raise ValueError(
            "`communication_period` must be an integer >= 1 (1: exchange at "
            "every step), or None for no exchange at all. "
            f"Received: communication_period={period!r}."
        )
