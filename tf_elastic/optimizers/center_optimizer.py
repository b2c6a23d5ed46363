"""What all optimizers of the package have in common."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.core import rules
from tf_elastic.optimizers import center_checks
from tf_elastic.optimizers import registry
from tf_elastic.optimizers import worker_copies
from tf_elastic.optimizers import worker_points
from tf_elastic.optimizers import worker_state
from tf_elastic.optimizers.cross_replica import in_cross_replica
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.own_step import OwnStep
from tf_elastic.optimizers.short_training import TrainingLength
from tf_elastic.optimizers.step_exchanges import StepExchanges
from tf_elastic.optimizers.step_exchanges import exchange_across
from tf_elastic.optimizers.strategy_interface import ElasticExtended
from tf_elastic.optimizers.strategy_interface import Exchange
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.optimizers.worker_step import step_of_own


class CenterOptimizer(OwnStep):
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
        learning_rate: LearningRate,
        *,
        communication_period: int | None = 10,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        registry.of_class(type(self))  # Refuses those that have none.
        center_checks.check_learning_rate(learning_rate)
        center_checks.check_period(communication_period)
        center_checks.check_not_overwritten(
            kwargs.get("ema_overwrite_frequency")
        )
        super().__init__(learning_rate, jit_compile, **kwargs)
        self.communication_period = communication_period
        self._untrained_variables: list[tf.Variable] = []
        self._exchanges: StepExchanges | None = None
        self._center_step = None
        # What the center keeps beside what is shown, where it is here.
        self._center_slots: dict[str, list[keras.Variable]] = {}
        self._center_numbers: dict[str, keras.Variable] = {}
        self._between_steps: list[Any] = []
        self._training_length = TrainingLength()

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

        in_cross_replica(build)

    def _build(self, variables: Sequence[keras.Variable]) -> None:
        extended = self._distribution_strategy.extended
        if not self.is_elastic:  # A saved model may be looked at without one.
            center_checks.check_no_scope(self, variables)
            self._build_variables(variables)
            return
        center_checks.check_scope(extended, variables)
        center_checks.check_one_worker(self, extended.num_workers)
        self._prepare(extended)
        with self._distribution_strategy.scope(), extended.worker_variables():
            self._build_variables(variables)
        for variable in variables:
            compat.native_variable(variable).is_trained = True
        extended.follow_clock(self._stepper())
        self._exchanges = StepExchanges(
            extended, self._exchange_spec(variables), self.jit_compile
        )
        if (self.communication_period or 1) > 1 and not self.use_ema:
            extended.prepare_closing(self._exchange)
        # Attributes, so that a tf.train.Checkpoint finds all of it.
        if self.closing is not None:
            self._between_steps = [self.closing.is_closed, *self.closing.held]
        if self._exchange.under_way is not None:
            self._between_steps = [self._exchange.under_way]
        self._untrained_variables = extended.untrained_variables()

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        """Creates what the update needs. Subclasses add their slots."""
        super().build(variables)
        extended = self._distribution_strategy.extended
        with self._of_all_workers():
            self._center_step = self.add_variable(
                (), dtype="int64", name="center_step"
            )
            if getattr(extended, "holds_center", True):
                rule = self.center_rule
                self._center_slots = worker_copies.center_slots(
                    self, rule, variables
                )
                self._center_numbers = worker_copies.center_numbers(self, rule)

    @property
    def center_rule(self) -> rules.Rule:
        """What workers send, and what the center does with it."""
        raise NotImplementedError

    def _parent_of(self, k: int) -> dict[str, tf.Variable]:
        """What the center keeps of a variable, by its number."""
        return {
            name: compat.native_variable(slots[k])
            for name, slots in self._center_slots.items()
        }

    def _prepare(self, extended: ElasticExtended) -> None:
        """Checks and fills in what depends on the strategy."""

    def _exchange_spec(self, variables: Sequence[keras.Variable]) -> Spec:
        """What is exchanged, and how: see `exchange_spec`."""
        raise NotImplementedError

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
        return worker_points.points_of(self._exchange, workers)

    def elastic_distances(self) -> np.ndarray:
        r"""How far this process' workers are from the center, in eager code.

        Returns:
            :math:`|x^i - \tilde x|` over all trainable variables, L2,
            shape (p,), float64.

        Raises:
            ValueError: the optimizer is not built.
        """
        workers = self._built_extended().local_workers
        return worker_points.distances_of(self._exchange, workers)

    def _built_extended(self) -> ElasticExtended:
        if self._exchanges is None:
            raise ValueError(
                f"{type(self).__name__} has no workers yet. Train a step, or "
                "call `optimizer.build(model.trainable_variables)` in the "
                "scope of an elastic strategy."
            )
        return self._distribution_strategy.extended

    @property
    def _exchange(self) -> Exchange | None:
        """The exchange of all variables; None before `build`."""
        return None if self._exchanges is None else self._exchanges.whole

    @property
    def closing(self) -> Any:
        """What holds the centers while they show what is not to stay.

        See `strategies.closing`; None where nothing does.
        """
        if self._exchanges is None:
            return None
        return getattr(self._exchanges.in_use, "closing", None)

    @property
    def center_step(self) -> keras.Variable | None:
        """How many exchanges the center has seen; None before `build`."""
        return self._center_step

    def apply(
        self,
        grads: Sequence[Gradient],
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
        center_checks.check_applies_here(self._distribution_strategy)
        extended = self._distribution_strategy.extended
        extended.training_begins()
        self._step_begins()
        exchange = self._exchange_of(trainable_variables)
        grads = extended.worker_gradients(grads)
        with tf.control_dependencies([g for g in grads if g is not None]):
            self._exchange_if_due("before", exchange)
        step_of_own(
            extended,
            functools.partial(self._local_step, grads, trainable_variables),
            functools.partial(self._idle_step, trainable_variables),
        )
        self._exchange_if_due("after", exchange)
        if self.use_ema:
            self._average_center(extended)
        in_cross_replica(
            self._step_ended,
            exchange=exchange,
            variables=trainable_variables or self._trainable_variables,
        )

    def _exchange_of(
        self, variables: Sequence[keras.Variable] | None
    ) -> Exchange | None:
        """The exchange of a step that trains these variables."""
        if self._exchanges is None:
            return None
        if variables is None:
            return self._exchanges.of_all()
        self._check_variables_are_known(variables)
        return self._exchanges.of(map(self._get_variable_index, variables))

    def _step_begins(self) -> None:
        """A replica's step begins: nothing is exchanged or moved yet."""

    def _idle_step(self, trainable_variables: Sequence | None) -> None:
        """What a worker does that has got no rows: nothing."""

    def _step_ended(
        self,
        strategy: tf.distribute.Strategy,
        exchange: Exchange | None,
        variables: Sequence[keras.Variable],
    ) -> None:
        """All workers have taken their step; in cross-replica context."""
        strategy.extended.optimizer_applies(
            self, exchange, [compat.native_variable(v) for v in variables]
        )
        strategy.extended.step_ended(exchange)

    def _local_step(
        self, grads: Sequence[Gradient], trainable_variables: Sequence | None
    ) -> None:
        """One step of this replica's worker: all that Keras does for one."""
        super().apply(grads, trainable_variables)

    def _exchange_if_due(self, moment: str, exchange: Exchange | None) -> None:
        if (
            self.communication_period is None
            or exchange is None
            or moment not in exchange.moments
        ):
            return
        clock, is_step = self.local_clock(moment)
        due = is_step & self._is_due(clock)
        in_cross_replica(
            exchange_across,
            due,
            clock,
            moment=moment,
            exchange=exchange,
            center_step=self._center_step,
            is_averaged=self.use_ema,
        )

    @property
    def is_elastic(self) -> bool:
        """Whether it was made in the scope of an elastic strategy."""
        strategy = self._distribution_strategy
        return getattr(strategy.extended, "is_elastic", False)

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
        return is_step & (clock % self.communication_period == 0)

    # The end of training, and files.

    def finalize_variable_values(
        self, var_list: Sequence[keras.Variable]
    ) -> None:
        """Ends training for now: Keras calls it at the end of `fit`.

        With `use_ema` the average of the center takes the model's place. Else,
        in the middle of a period, the center shows what an exchange would
        make of it; the next step goes on without it. In a cluster the worker
        brings what it has.

        Warns:
            ShortTrainingWarning: there were fewer steps than a period has.
        """
        super().finalize_variable_values(var_list)
        if not self.is_elastic or self._exchanges is None:
            return
        clock, _ = self.local_clock("after")
        period = self.communication_period
        self._training_length.ends(int(clock), period)
        if period is None or int(clock) == 0:
            return
        extended = self._distribution_strategy.extended
        exchange = self._exchanges.in_use
        if (
            not extended.holds_center
            or "before" in exchange.moments
            or int(clock) % period
        ):
            extended.close(exchange, clock, self._center_step.value)

    def save_own_variables(self, store: worker_state.Store) -> None:
        """Writes the state of all workers: points, slots, clocks."""
        worker_state.save(self, store)

    def load_own_variables(self, store: worker_state.Store) -> None:
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
