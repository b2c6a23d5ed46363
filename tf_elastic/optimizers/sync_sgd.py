"""Synchronous SGD: the baseline of all that does not wait."""

from typing import Any

import keras

from tf_elastic.core import rules
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.push_optimizer import GradientPush
from tf_elastic.optimizers.registry import register


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="sync_sgd",
    family="gradients to a center with momentum",
    rule="v = mu v - eta mean of g_i;  c += v;  x_i = c",
    orders=("gauss_seidel",),
    protocols=("synchronous",),
    refusal=(
        "it takes one step by the mean of all workers' gradients, so they "
        "have to meet; AsyncMSGD does not wait"
    ),
    up="gradient",
    down="parameters",
    worker_memory=2,
    center_memory=1,
    stable="eta h < 2 (1 + mu)",
    use="the comparator: equal workers, fast networks, a large batch",
    reference="Chen et al. (2016); Begunov and Tyurin (2026)",
    defaults={"learning_rate": {"digits": 0.1, "cifar": 0.02}},
    refuses={"weight_decay": "what is sent is a gradient"},
)
class SyncSGD(GradientPush):
    r"""Synchronous SGD: every step is one by the mean of all gradients.

    .. math::
        v \leftarrow \mu v - \frac\eta p \sum_i g^i(\tilde x), \quad
            \tilde x \leftarrow \tilde x + v, \quad x^i \leftarrow \tilde x

    which is Keras' SGD with a batch p times as large. If a round ends with
    those m gradients that have come, as where workers have died, the mean is
    over these.

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.01.
        momentum: :math:`\mu` in [0, 1), of the heavy ball. Default 0. A
            variable: it may be changed while training goes on.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.
        **kwargs: as in `keras.optimizers.Optimizer`, but for `weight_decay`.

    Raises:
        ValueError: an argument is out of its range or has no meaning here;
            the strategy has no such exchange.

    Reference:
        Begunov and Tyurin (2026), "Do we need asynchronous SGD? On the
        near-optimality of synchronous methods", with all workers or with the m
        fastest ones; Chen et al. (2016), "Revisiting distributed synchronous
        SGD".
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        momentum: float = 0.0,
        jit_compile: bool | str = "auto",
        name: str = "sync_sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            momentum=momentum,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )

    @property
    def center_rule(self) -> rules.Rule:
        """One step by the mean of the gradients."""
        return rules.MeanGradient()
