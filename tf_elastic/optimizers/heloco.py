"""Asynchronous DiLoCo whose center turns what does not agree with it."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.optimizers.averaging import DiLoCo
from tf_elastic.optimizers.registry import register


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="heloco",
    rule="d = rho (x_i - read_i, turned to v);  v = mu v + (1 - mu) d;  "
    "c += eta_o (d + mu v);  x_i = read_i = c + eta_o mu v",
    orders=("round_robin",),
    protocols=("blocking", "overlapped"),
    refusal=(
        "it corrects pushes that come one after another, each by the velocity "
        "that it finds; workers that meet are DiLoCo's"
    ),
    up="update",
    down="look-ahead point",
    worker_memory=2,
    center_memory=1,
    stable="not known: its step is not linear",
    use="as AsyncDiLoCo, with workers of unlike data",
    reference="Al Asif et al. (2026), Algorithms 1 and 2",
)
class HeLoCo(DiLoCo):
    r"""HeLoCo: asynchronous DiLoCo with stale ways turned to the velocity.

    .. math::
        d &\leftarrow \rho \hat d, \quad v \leftarrow \mu v + (1 - \mu) d \\
        \tilde x &\leftarrow \tilde x + \eta_o (d + \mu v), \quad
            x^i \leftarrow \tilde x + \eta_o \mu v

    with each push, where :math:`\hat d` is the way that the worker has gone
    since it was given its point, corrected for each variable by itself: what
    points against the velocity is shortened, what points aside is turned to
    it, what agrees stays. See `core.rules.Aligned`, which has the paper's
    constants.

    A center server holds whole variables, or a correction would depend on how
    many servers there are: shares may be unequal.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name. Default
            "adamw".
        outer_learning_rate: :math:`\eta_o > 0`. Default 0.7.
        outer_momentum: :math:`\mu` in [0, 1). Default 0.9.
        push_weight: :math:`\rho` in (0, 1]: how much of a push counts; None
            for the paper's :math:`1 / \sqrt p` (default).
        communication_period: local steps between two pushes, >= 1; None for
            none. Default 50.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: an argument is out of its range; the strategy has no such
            exchange.

    Reference:
        Al Asif et al. (2026), "HeLoCo: Efficient asynchronous low-communication
        training under data and device heterogeneity", Algorithms 1 and 2.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str = "adamw",
        *,
        outer_learning_rate: float = 0.7,
        outer_momentum: float = 0.9,
        push_weight: float | None = None,
        communication_period: int | None = 50,
        jit_compile: bool | str = "auto",
        name: str = "heloco",
    ) -> None:
        if push_weight is not None and not (
            isinstance(push_weight, (int, float)) and 0 < push_weight <= 1
        ):
            raise ValueError(
                "`push_weight` must be a number in (0, 1], or None. "
                f"Received: push_weight={push_weight!r}."
            )
        super().__init__(
            inner_optimizer,
            outer_learning_rate=outer_learning_rate,
            outer_momentum=outer_momentum,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
        )
        self.push_weight = push_weight

    @property
    def center_rule(self) -> rules.Rule:
        """Corrects what comes, then takes an outer step."""
        return rules.Aligned()

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`."""
        weight = self.push_weight
        return {
            **super().push_rates(num_workers, numbers),
            "weight": num_workers**-0.5 if weight is None else weight,
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {**super().get_config(), "push_weight": self.push_weight}
