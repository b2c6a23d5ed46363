"""DiLoCo whose workers do not wait for each other."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.optimizers.averaging import DiLoCo
from tf_elastic.optimizers.registry import register
from tf_elastic.optimizers.strategy_interface import ElasticExtended


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="async_diloco",
    rule="d = x_i - read_i;  c += eta_o d / N;  with every N-th: "
    "v = mu v + mean of the N d's, c += eta_o mu v;  x_i = read_i = c",
    orders=("round_robin",),
    protocols=("blocking", "overlapped"),
    refusal=(
        "its center counts pushes that come one after another; workers that "
        "meet are DiLoCo's"
    ),
    up="update",
    worker_memory=2,
    center_memory=2,
    stable="theory.advise, for N = p and SGD inside; delay narrows DiLoCo's",
    use="as DiLoCo, with unequal workers that should not wait",
    reference="Liu et al. (2024), Algorithm 3",
)
class AsyncDiLoCo(DiLoCo):
    r"""Asynchronous DiLoCo: stale pushes, and Nesterov's momentum delayed.

    A worker pushes the way d that it has gone since it last read the center,
    and goes on from the center as it is then. Each push moves the center by
    its N-th part, and the velocity acts once in N pushes, with their mean:

    .. math::
        \tilde x &\leftarrow \tilde x + \eta_o d / N, \quad b \leftarrow b + d
            \\
        v &\leftarrow \mu v + b / N, \quad
            \tilde x \leftarrow \tilde x + \eta_o \mu v, \quad
            b \leftarrow 0 \quad \text{with every N-th push}

    N pushes of workers that have read the same center are a step of DiLoCo.

    The paper's dynamic local updates, :math:`\tau` in proportion to a worker's
    speed, are the strategy's: `VirtualClusterStrategy(match_speeds=True)`. In
    a cluster, where nobody measures speeds, each process may be given a
    `communication_period` of its own, which is the same where they are known
    and constant. The paper's period of grace, in which pushes wait for each
    other, is not here, nor is its choice of data.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name. Default
            "adamw".
        outer_learning_rate: :math:`\eta_o > 0`. Default 0.7, DiLoCo's.
        outer_momentum: :math:`\mu` in [0, 1). Default 0.9, DiLoCo's.
        momentum_delay: N, pushes, >= 1; None for as many as there are workers
            (default).
        momentum_activation: c from 0 (default) to 1 / N: the velocity acts
            with this share in each of the N - 1 pushes before, and in the
            N-th with what is left to 1.
        communication_period: local steps between two pushes, >= 1; None for
            none. Default 50.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: an argument is out of its range; the strategy has no such
            exchange.

    If it diverges with more workers, lower `outer_momentum`, then
    `outer_learning_rate`.

    Reference:
        Liu et al. (2024), "Asynchronous local-SGD training for language
        modeling", Algorithm 3 (delayed Nesterov).
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str = "adamw",
        *,
        outer_learning_rate: float = 0.7,
        outer_momentum: float = 0.9,
        momentum_delay: int | None = None,
        momentum_activation: float = 0.0,
        communication_period: int | None = 50,
        jit_compile: bool | str = "auto",
        name: str = "async_diloco",
    ) -> None:
        if momentum_delay is not None and not (
            type(momentum_delay) is int and momentum_delay >= 1
        ):
            raise ValueError(
                "`momentum_delay` must be an integer >= 1, or None. "
                f"Received: momentum_delay={momentum_delay!r}."
            )
        _check_activation(momentum_activation, momentum_delay or 1)
        super().__init__(
            inner_optimizer,
            outer_learning_rate=outer_learning_rate,
            outer_momentum=outer_momentum,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
        )
        self.momentum_delay = momentum_delay
        self.momentum_activation = momentum_activation

    @property
    def center_rule(self) -> rules.Rule:
        """Plain steps, and momentum once in several of them."""
        return rules.DelayedNesterov()

    def _prepare(self, extended: ElasticExtended) -> None:
        super()._prepare(extended)
        _check_activation(
            self.momentum_activation,
            self.momentum_delay or extended.num_workers,
        )

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`."""
        return {
            **super().push_rates(num_workers, numbers),
            "delay": self.momentum_delay or num_workers,
            "activation": self.momentum_activation,
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            **super().get_config(),
            "momentum_delay": self.momentum_delay,
            "momentum_activation": self.momentum_activation,
        }


def _check_activation(activation: object, delay: int) -> None:
    """Refuses a velocity that would act more than once in `delay` pushes.

    Raises:
        ValueError: it would, or the activation is negative or no number.
    """
    if not (
        isinstance(activation, (int, float)) and 0 <= activation <= 1 / delay
    ):
        raise ValueError(
            "`momentum_activation` must be from 0 to 1 / N, where N is "
            f"`momentum_delay` ({delay} here). Received: "
            f"momentum_activation={activation!r}. Lower it, or "
            "`momentum_delay`."
        )
