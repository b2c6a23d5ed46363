"""Elastic averaging SGD with momentum."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import core
from tf_elastic.optimizers import worker_copies
from tf_elastic.optimizers.elastic_optimizer import ElasticOptimizer
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.push_optimizer import check_momentum
from tf_elastic.optimizers.registry import register
from tf_elastic.optimizers.strategy_interface import Gradient


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    worker_memory=2,
    stable="as EASGD; momentum narrows eta h (docs/theory.md)",
    use="the default for deep networks; momentum 0.99",
    reference="Zhang (2016), Algorithm 2",
    defaults={
        "learning_rate": {"digits": 0.05, "cifar": 0.005},
        "momentum": {"digits": 0.9, "cifar": 0.99},
    },
)
class EAMSGD(ElasticOptimizer):
    r"""Elastic averaging momentum SGD (Algorithm 2).

    Every worker i takes steps with momentum; every :math:`\tau` steps it and
    the center attract each other:

    .. math::
        x^i_{t+1} &= x^i_t + v^i_{t+1} - \alpha (x^i_t - \tilde x_t) \\
        v^i_{t+1} &= \delta v^i_t - \eta g^i_t(x^i_t + \delta v^i_t) \\
        \tilde x_{t+1} &= (1 - \beta) \tilde x_t
            + \beta \frac1p \sum_i x^i_t

    With `nesterov=False` the gradient is taken at :math:`x^i_t` (heavy ball,
    eq. 2.6). The center has no momentum.

    A worker's variables hold :math:`x + \delta v`, the point of the gradient;
    what is exchanged is x, as in the paper.

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.01; the thesis uses 0.001 to 0.01 for CIFAR.
        momentum: :math:`\delta` in [0, 1). Default 0.99, the thesis'.
        moving_rate: :math:`\alpha`. Default: beta / p.
        beta: :math:`\beta`. Default 0.9, the thesis'.
        communication_period: :math:`\tau`, local steps, >= 1; None for no
            exchange. Default 10.
        nesterov: whether the gradient is taken ahead. Default True.
        symmetric: see `ElasticOptimizer`.
        jit_compile: see `ElasticOptimizer`.
        center_average: see `ElasticOptimizer`.
        average_from: see `ElasticOptimizer`.
        name: name of the optimizer.
        **kwargs: as in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: an argument is out of its range; the message names it.

    If the loss gets stuck at a high level with a long
    `communication_period`, the workers hang on both sides of a saddle:
    lower the period, or let the learning rate decay
    (`schedules.InverseSqrtDecay`).

    Reference:
        Zhang (2016), eqs. 2.5, 2.6 and Algorithm 2.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        momentum: float = 0.99,
        moving_rate: float | None = None,
        beta: float | None = None,
        communication_period: int | None = 10,
        nesterov: bool = True,
        symmetric: bool = True,
        jit_compile: bool | str = "auto",
        center_average: str | float | None = None,
        average_from: int | str = 0,
        name: str = "eamsgd",
        **kwargs: Any,
    ) -> None:
        check_momentum("momentum", momentum)
        super().__init__(
            learning_rate,
            moving_rate=moving_rate,
            beta=beta,
            communication_period=communication_period,
            symmetric=symmetric,
            jit_compile=jit_compile,
            center_average=center_average,
            average_from=average_from,
            name=name,
            **kwargs,
        )
        self.momentum = momentum
        self.nesterov = nesterov
        self._velocities: list[keras.Variable] = []

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        super()._build_variables(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")
        worker_copies.rest_with(self, variables, self._velocities)

    def _exchanged_variables(
        self, variables: Sequence[keras.Variable]
    ) -> list[ExchangedVariable]:
        # The heavy ball's variables hold x itself; the velocity is there to
        # be zero where a worker begins anew at the center.
        ahead = self.momentum if self.nesterov else 0.0
        return [
            ExchangedVariable(
                compat.native_variable(variable),
                compat.native_variable(velocity),
                ahead,
                parent=self._parent_of(k),
            )
            for k, (variable, velocity) in enumerate(
                zip(variables, self._velocities, strict=True)
            )
        ]

    def update_step(
        self,
        gradient: Gradient,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """One momentum step of one worker's variable.

        A sparse gradient is filled up with zeros, since the velocity moves
        every row.
        """
        velocity = self._velocities[self._get_variable_index(variable)]
        step = (
            core.lookahead_momentum_step
            if self.nesterov
            else core.momentum_step
        )
        state = step(
            tf.convert_to_tensor(variable),
            tf.convert_to_tensor(velocity),
            tf.convert_to_tensor(gradient),
            learning_rate,
            self.momentum,
        )
        self.assign(velocity, state.velocity)
        self.assign(variable, state.parameters)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        config.update(momentum=self.momentum, nesterov=self.nesterov)
        return config
