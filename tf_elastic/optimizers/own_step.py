"""A Keras optimizer whose steps are those of one worker.

Keras sums the gradients of all replicas, and has their loss divided by how
many there are. Here a worker clips and follows its own.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
import tensorflow as tf

from tf_elastic.optimizers.center_average import average_center
from tf_elastic.optimizers.compiled import FusedUpdate
from tf_elastic.optimizers.compiled import check_jit_compile
from tf_elastic.optimizers.strategy_interface import ElasticExtended
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.optimizers.worker_step import replica_device
from tf_elastic.optimizers.worker_step import scale_gradients

# What Keras takes for a learning rate.
LearningRate: TypeAlias = (
    float
    | keras.optimizers.schedules.LearningRateSchedule
    | Callable[[], float]
)


class OwnStep(keras.optimizers.Optimizer):
    """Base class: what Keras calls in a step, for this replica's worker alone.

    A subclass writes the step as Keras has it, in
    `update_step(gradient, variable, learning_rate)`.

    Args:
        learning_rate: float, schedule or callable.
        jit_compile: whether the update is compiled by XLA: True, False or
            "auto" (where the device can).
        **kwargs: as in `keras.optimizers.Optimizer`. `use_ema` averages the
            center.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        jit_compile: bool | str,
        **kwargs: Any,
    ) -> None:
        check_jit_compile(jit_compile)
        super().__init__(learning_rate, **kwargs)
        self.jit_compile = jit_compile
        self._fused = FusedUpdate(jit_compile)

    def _calls_per_step(self) -> int:
        """How many calls of `apply` make a local step."""
        return self.gradient_accumulation_steps or 1

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

    @property
    def _clips(self) -> bool:
        return any((self.clipnorm, self.clipvalue, self.global_clipnorm))

    def _own_scale(self) -> float:
        return self._distribution_strategy.extended.gradient_scale

    def _clip_gradients(self, grads: Sequence[Gradient]) -> list[Gradient]:
        if not self._clips:
            return list(grads)
        own = scale_gradients(grads, self._own_scale())
        return super()._clip_gradients(own)

    def _backend_update_step(
        self,
        grads: Sequence[Gradient],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        scale = 1.0 if self._clips else self._own_scale()

        def step(
            grads: Sequence[Gradient],
            variables: Sequence[keras.Variable],
            learning_rate: tf.Tensor,
        ) -> None:
            for grad, variable in zip(
                scale_gradients(grads, scale), variables, strict=True
            ):
                grad = tf.cast(grad, variable.dtype)
                rate = tf.cast(learning_rate, variable.dtype)
                self.update_step(grad, variable, rate)

        self._fused(
            step, grads, trainable_variables, learning_rate, replica_device()
        )

    def _of_all_workers(self) -> contextlib.AbstractContextManager[None]:
        """Inside, one variable is made for all workers of a device."""
        extended = self._distribution_strategy.extended
        if getattr(extended, "is_elastic", False):
            return extended.common_variables()
        return contextlib.nullcontext()

    def add_optimizer_variables(
        self,
        trainable_variables: Sequence[keras.Variable],
        name: str,
        *args: Any,
        **kwargs: Any,
    ) -> list[keras.Variable]:
        """Adds variables like the model's; see Keras.

        Of the averages of `use_ema`, which are of the center, all workers have
        the same.
        """
        is_ema = self.use_ema and not hasattr(
            self, "_model_variables_moving_average"
        )
        with self._of_all_workers() if is_ema else contextlib.nullcontext():
            return super().add_optimizer_variables(
                trainable_variables, name, *args, **kwargs
            )

    def _update_model_variables_moving_average(
        self, trainable_variables: Sequence[keras.Variable]
    ) -> None:
        """Nothing yet: an exchange may follow the local step."""

    def _average_center(self, extended: ElasticExtended) -> None:
        """Takes the center as it is at the end of a step into its average."""
        calls = tf.convert_to_tensor(self._iterations)  # this one among them

        def average() -> None:
            with extended.center_view():
                average_center(
                    self._model_variables_moving_average,
                    self._trainable_variables,
                    self.ema_momentum,
                    calls <= self._calls_per_step(),
                )

        now = extended.averages_now()
        if now is None:
            average()
        else:
            tf.cond(now, average, lambda: None)

    def _overwrite_model_variables_with_average_value(
        self, trainable_variables: Sequence[keras.Variable]
    ) -> None:
        for variable in trainable_variables:
            index = self._get_variable_index(variable)
            variable.assign(self._model_variables_moving_average[index])
