"""Learning rates that depend on a worker's own clock."""

from typing import Any

import keras
import tensorflow as tf

from tf_elastic import core


@keras.saving.register_keras_serializable("tf_elastic")
class InverseSqrtDecay(keras.optimizers.schedules.LearningRateSchedule):
    r"""The thesis' decay :math:`\eta_t = \eta / (1 + \gamma t)^{0.5}`.

    Args:
        initial_learning_rate: :math:`\eta`, at least 0.
        decay: :math:`\gamma \ge 0`, per local step.
        name: name of the schedule.

    Raises:
        ValueError: an argument is negative.

    Example:

    >>> schedule = InverseSqrtDecay(0.1, decay=0.01)
    >>> round(float(schedule(300)), 6)
    0.05

    Reference:
        Zhang (2016), Figure 4.13.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay: float,
        name: str = "inverse_sqrt_decay",
    ) -> None:
        for argument, value in (
            ("initial_learning_rate", initial_learning_rate),
            ("decay", decay),
        ):
            core.check_rate(argument, value)
        self.initial_learning_rate = initial_learning_rate
        self.decay = decay
        self.name = name

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        r"""The rate at a worker's clock.

        Args:
            step: t, an integer scalar.

        Returns:
            :math:`\eta_t`, a scalar of Keras' `floatx`.
        """
        step = tf.cast(step, keras.config.floatx())
        return core.inverse_sqrt_decay(
            self.initial_learning_rate, step, self.decay
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay": self.decay,
            "name": self.name,
        }
