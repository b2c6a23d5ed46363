"""Momentum at the center, gradients from workers that do not wait."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.push_optimizer import GradientPush
from tf_elastic.optimizers.registry import register

_FAMILY = "gradients to a center with momentum"
_REFUSAL = (
    "it is a rule for gradients that come one after another: every push is an "
    "update of its own"
)
_POWERS = {"constant": 0.0, "inverse": 1.0, "inverse_sqrt": 0.5}


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    family=_FAMILY,
    rule="c += -eta g_i + mu (c - c_before);  x_i = c",
    orders=("round_robin",),
    protocols=("blocking", "overlapped"),
    refusal=_REFUSAL,
    up="gradient",
    down="parameters",
    worker_memory=2,
    center_memory=1,
    stable="staleness <= C (1 - mu)^2 / sqrt(eta)",
    use="fast networks, small models; exchanges at every step; with "
    "`delay_compensation` a center server keeps two copies for each worker",
    reference="Liu et al. (2018), eq. 1.3",
    defaults={"learning_rate": {"digits": 0.05, "cifar": 0.01}},
    refuses={"weight_decay": "what is sent is a gradient"},
)
class AsyncMSGD(GradientPush):
    r"""Asynchronous momentum SGD: stale gradients, momentum at the center.

    .. math::
        \tilde x_{k+1} = \tilde x_k - \eta g(\tilde x_{k - \tau_k})
            + \mu (\tilde x_k - \tilde x_{k-1})

    A worker pushes the gradient taken at the point that it was last given,
    and gets the center as it is then. :math:`\tau_k` is the staleness: the
    updates by others meanwhile, p - 1 among equal workers.

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.01.
        momentum: :math:`\mu` in [0, 1). Default 0.9 / p, of the p workers
            that there are when the optimizer is built. With 0 it is plain
            asynchronous SGD. A variable: it may be changed while training
            goes on.
        adjustment: :math:`u_k` by which :math:`\eta` is multiplied at the
            center's k-th update: `"constant"` (1, default), `"inverse"`
            (1 / k) or `"inverse_sqrt"` (1 / sqrt(k)).
        staleness_scaling: whether each gradient's rate is divided by its
            measured staleness.
        delay_compensation: :math:`\lambda \ge 0`: gradients are corrected for
            the way that the center has moved meanwhile. 0 (default): not.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.
        **kwargs: as in `keras.optimizers.Optimizer`, but for `weight_decay`.

    Raises:
        ValueError: an argument is out of its range or has no meaning here;
            the strategy has no such exchange.

    If it diverges with more workers, lower `momentum` first: the delay that
    can be borne falls with (1 - momentum)^2. `callbacks.MomentumController`
    does it by what it measures.

    Reference:
        Liu et al. (2018), eq. 1.3; He et al. (2018) for u_k; Zhang et al.
        (2016), staleness-aware async-SGD; Zheng et al. (2017), DC-ASGD.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        momentum: float | None = None,
        adjustment: str = "constant",
        staleness_scaling: bool = False,
        delay_compensation: float = 0.0,
        jit_compile: bool | str = "auto",
        name: str = "async_msgd",
        **kwargs: Any,
    ) -> None:
        if adjustment not in _POWERS:
            raise ValueError(
                f"`adjustment` must be one of {tuple(_POWERS)}. "
                f"Received: adjustment={adjustment!r}."
            )
        core.check_rate("delay_compensation", delay_compensation)
        super().__init__(
            learning_rate,
            momentum=momentum,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )
        self.adjustment = adjustment
        self.staleness_scaling = staleness_scaling
        self.delay_compensation = delay_compensation

    @property
    def center_rule(self) -> rules.Rule:
        """Heavy-ball momentum at the center."""
        return rules.HeavyBall(
            adjustment=_POWERS[self.adjustment],
            scales_by_staleness=self.staleness_scaling,
            compensates=self.delay_compensation > 0,
        )

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`."""
        rates = super().push_rates(num_workers, numbers)
        return {**rates, "compensation": self.delay_compensation}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            **super().get_config(),
            "adjustment": self.adjustment,
            "staleness_scaling": self.staleness_scaling,
            "delay_compensation": self.delay_compensation,
        }


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="mdownpour",
    family=_FAMILY,
    rule="v = delta v - eta g_i;  c += v;  x_i = c + delta v",
    orders=("round_robin",),
    protocols=("blocking", "overlapped"),
    refusal=_REFUSAL,
    up="gradient",
    down="look-ahead point",
    worker_memory=2,
    center_memory=1,
    stable="staleness <= C (1 - delta)^2 / sqrt(eta)",
    use="the comparator of the thesis; exchanges at every step",
    reference="Zhang (2016), Algorithms 4 and 5",
    defaults={
        "learning_rate": {"digits": 0.005, "cifar": 0.00005},
        "momentum": {"digits": 0.9, "cifar": 0.99},
    },
    refuses={"weight_decay": "what is sent is a gradient"},
)
class MDownpour(GradientPush):
    r"""Momentum DOWNPOUR: Nesterov's momentum at the center.

    .. math::
        v &\leftarrow \delta v - \eta g^i(x^i) \\
        \tilde x &\leftarrow \tilde x + v, \quad
            x^i \leftarrow \tilde x + \delta v

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.00001; the thesis uses 0.000005 to 0.00005 for CIFAR.
        momentum: :math:`\delta` in [0, 1). Default 0.99, the thesis'.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.
        **kwargs: as in `keras.optimizers.Optimizer`, but for `weight_decay`.

    Raises:
        ValueError: an argument is out of its range or has no meaning here;
            the strategy has no such exchange.

    With one worker it is momentum SGD. With p of them it takes p times as
    many steps of the same size, each with a gradient that is p - 1 updates
    old: lower `learning_rate`, then `momentum`.

    Reference:
        Zhang (2016), Algorithms 4 and 5.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.00001,
        *,
        momentum: float = 0.99,
        jit_compile: bool | str = "auto",
        name: str = "mdownpour",
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
        """Nesterov's momentum at the center."""
        return rules.Nesterov()
