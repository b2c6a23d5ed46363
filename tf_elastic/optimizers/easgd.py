"""Elastic averaging SGD."""

from typing import Any

import keras
import tensorflow as tf

from tf_elastic.optimizers.elastic_optimizer import ElasticOptimizer
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.registry import register
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.optimizers.worker_step import assign_sgd_step


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    use="the default: long periods, slow networks",
    defaults={"learning_rate": {"digits": 0.2, "cifar": 0.05}},
)
class EASGD(ElasticOptimizer):
    r"""Elastic averaging SGD (Algorithm 1).

    Every worker i takes plain SGD steps; every :math:`\tau` steps it and the
    center attract each other:

    .. math::
        x^i_{t+1} &= x^i_t - \eta g^i_t(x^i_t)
            - \alpha (x^i_t - \tilde x_t) \\
        \tilde x_{t+1} &= (1 - \beta) \tilde x_t
            + \beta \frac1p \sum_i x^i_t

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.01; the thesis uses 0.005 to 0.05 for CIFAR.
        moving_rate: :math:`\alpha`. Default: beta / p.
        beta: :math:`\beta`. Default 0.9, the thesis'.
        communication_period: :math:`\tau`, local steps, >= 1; None for no
            exchange. Default 10, the thesis' for its larger experiments.
        symmetric: see `ElasticOptimizer`.
        jit_compile: see `ElasticOptimizer`.
        center_average: see `ElasticOptimizer`.
        average_from: see `ElasticOptimizer`.
        name: name of the optimizer.
        **kwargs: as in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: an argument is out of its range; the message names it.

    If the center falls behind the workers, raise `beta` or lower
    `communication_period`; if the run diverges, lower `learning_rate`.

    Reference:
        Zhang (2016), eqs. 2.3, 2.4 and Algorithm 1.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        moving_rate: float | None = None,
        beta: float | None = None,
        communication_period: int | None = 10,
        symmetric: bool = True,
        jit_compile: bool | str = "auto",
        center_average: str | float | None = None,
        average_from: int | str = 0,
        name: str = "easgd",
        **kwargs: Any,
    ) -> None:
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

    def update_step(
        self,
        gradient: Gradient,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """One SGD step of one worker's variable."""
        assign_sgd_step(self, gradient, variable, learning_rate)
