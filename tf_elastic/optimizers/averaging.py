"""Model averaging: workers meet, and go on from their mean."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers.inner_step import InnerStep
from tf_elastic.optimizers.push_optimizer import PushOptimizer
from tf_elastic.optimizers.push_optimizer import check_momentum
from tf_elastic.optimizers.registry import register

_REFUSAL = "it needs the mean over all workers, so they have to meet"


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    family="means",
    rule="c = mean of x_i;  x_i = c",
    orders=("gauss_seidel",),
    protocols=("synchronous",),
    refusal=_REFUSAL,
    up="parameters",
    down="parameters",
    worker_memory=1,
    stable="that of the local step",
    use="equal workers that may wait for each other",
    reference="Stich (2019); McMahan et al. (2017), without sampling",
    defaults={
        "learning_rate": {"digits": 0.003, "cifar": 0.0003},
        "inner_optimizer": "adam",
    },
)
class LocalSGD(InnerStep, PushOptimizer):
    r"""Local SGD: every tau steps all workers go on from their mean.

    .. math::
        \tilde x \leftarrow \frac1p \sum_i x^i, \quad x^i \leftarrow \tilde x

    It is the synchronous Gauss-Seidel form of elastic averaging with
    alpha = beta = 1. The inner optimizer's slots are each worker's own.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name. Default
            "sgd".
        communication_period: :math:`\tau`, local steps, >= 1; None for no
            exchange. Default 10.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: an argument is out of its range; the strategy has no such
            exchange.

    Reference:
        Stich (2019), "Local SGD converges fast and communicates little";
        McMahan et al. (2017), FedAvg, with all clients in every round.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str = "sgd",
        *,
        communication_period: int | None = 10,
        jit_compile: bool | str = "auto",
        name: str = "local_sgd",
    ) -> None:
        super().__init__(
            inner_optimizer,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
        )

    @property
    def center_rule(self) -> rules.Rule:
        """The center moves by the workers' mean difference."""
        return rules.Mean()


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="diloco",
    family="means",
    rule="d = mean of x_i - c;  v = mu v + d;  c += eta_o (d + mu v);  x_i = c",
    orders=("gauss_seidel",),
    protocols=("synchronous",),
    refusal=_REFUSAL,
    up="parameters",
    down="parameters",
    worker_memory=1,
    center_memory=1,
    stable="eta_o < 2 (1 + mu) / (1 + 2 mu) on the averaged step",
    use="AdamW inside, periods of 50 to 500 steps, equal workers",
    reference="Douillard et al. (2023), Algorithm 1",
    defaults={
        "learning_rate": {"digits": 0.003, "cifar": 0.0003},
        "inner_optimizer": "adam",
    },
)
class DiLoCo(InnerStep, PushOptimizer):
    r"""DiLoCo: the mean way of all workers is a gradient for the center.

    .. math::
        d &= \frac1p \sum_i (x^i - \tilde x) \\
        v &\leftarrow \mu v + \eta_o d, \quad
            \tilde x \leftarrow \tilde x + \mu v + \eta_o d, \quad
            x^i \leftarrow \tilde x

    which is Keras' and PyTorch's Nesterov SGD with the gradient -d.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name. Default
            "adamw".
        outer_learning_rate: :math:`\eta_o > 0`. Default 0.7, the paper's.
        outer_momentum: :math:`\mu` in [0, 1). Default 0.9, the paper's.
        communication_period: local steps between two meetings, >= 1; None
            for none. Default 50; the paper uses 500 for large models.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: an argument is out of its range; the strategy has no such
            exchange.

    Reference:
        Douillard et al. (2023), "DiLoCo: Distributed low-communication
        training of language models", Algorithm 1.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str = "adamw",
        *,
        outer_learning_rate: float = 0.7,
        outer_momentum: float = 0.9,
        communication_period: int | None = 50,
        jit_compile: bool | str = "auto",
        name: str = "diloco",
    ) -> None:
        core.check_rate("outer_learning_rate", outer_learning_rate)
        check_momentum("outer_momentum", outer_momentum)
        super().__init__(
            inner_optimizer,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
        )
        self.outer_learning_rate = outer_learning_rate
        self.outer_momentum = outer_momentum

    @property
    def center_rule(self) -> rules.Rule:
        """Nesterov's momentum on the mean difference."""
        return rules.OuterNesterov()

    def push_numbers(self, clock: tf.Tensor) -> list[tf.Tensor]:
        """Learning rate and momentum of the outer step."""
        del clock
        return [self.outer_learning_rate, self.outer_momentum]

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`."""
        del num_workers
        return {"learning_rate": numbers[0], "momentum": numbers[1]}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            **super().get_config(),
            "outer_learning_rate": self.outer_learning_rate,
            "outer_momentum": self.outer_momentum,
        }
