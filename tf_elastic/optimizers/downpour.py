"""DOWNPOUR, and its averages over time."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers.late_average import LateAverage
from tf_elastic.optimizers.late_average import rates_of_cut
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.push_optimizer import PushOptimizer
from tf_elastic.optimizers.registry import register
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.optimizers.worker_step import assign_sgd_step


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    family="DOWNPOUR",
    rule="c += x_i - read_i;  x_i = read_i = c",
    orders=("round_robin", "gauss_seidel"),
    protocols=("blocking", "overlapped", "synchronous"),
    refusal=(
        "DOWNPOUR's workers go on from the center as it is after their own "
        "push, which is the Gauss-Seidel form (eq. 6.3)"
    ),
    up="update",
    down="parameters",
    worker_memory=2,
    stable="about p tau eta h < 2: short periods only",
    use="tau = 1 to 4, few workers; the comparator of the thesis",
    reference="Zhang (2016), Algorithm 3",
    defaults={"learning_rate": {"digits": 0.05, "cifar": 0.005}},
)
class Downpour(PushOptimizer):
    r"""DOWNPOUR: pull, tau local steps, push what they have come to.

    .. math::
        x^i &\leftarrow \tilde x, \text{ then } \tau \text{ times }
            x^i \leftarrow x^i - \eta g^i(x^i) \\
        \tilde x &\leftarrow \tilde x + v^i, \quad
            v^i = x^i - \text{the center as it was read}

    It is the Gauss-Seidel form of elastic averaging with alpha = 1 and
    beta = p (section 6.2): all workers' updates are added, not averaged, so
    the learning rate must be p times smaller and the period short.

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.001; the thesis uses 0.0005 to 0.005 for CIFAR.
        communication_period: :math:`\tau`, local steps, >= 1; None for no
            exchange. Default 1; the thesis finds 1 to 4 to be stable.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.
        **kwargs: as in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: an argument is out of its range; the strategy has no such
            exchange.

    If it diverges, lower `communication_period`, then `learning_rate`; if you
    need long periods, use `EASGD`.

    Reference:
        Zhang (2016), Algorithm 3; Dean et al. (2012).
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        communication_period: int | None = 1,
        jit_compile: bool | str = "auto",
        name: str = "downpour",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )

    @property
    def center_rule(self) -> rules.Rule:
        """The center adds what is pushed."""
        return rules.Add()

    def update_step(
        self,
        gradient: Gradient,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """One SGD step of one worker's variable."""
        assign_sgd_step(self, gradient, variable, learning_rate)


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="adownpour",
    rule="as Downpour;  z += (c - z) / (t + 1), z is the answer",
    center_memory=1,
    use="as Downpour, where the end is noisy",
    reference="Zhang (2016), chapter 4",
)
class ADownpour(LateAverage, Downpour):
    r"""DOWNPOUR with the mean of all centers so far as the answer.

    .. math::
        z_{t+1} = (1 - a_{t+1}) z_t + a_{t+1} \tilde x_t, \quad
            a_{t+1} = \frac{1}{t + 1}

    t counts the center's updates. z is what is evaluated and saved.

    Args:
        learning_rate, communication_period, jit_compile, name, **kwargs: as
            in `Downpour`.
        average_from: how many updates of the center come before the average
            begins, an integer >= 0 (default); until then the center is
            shown. See `core.averaging_rate`. `"first_cut"` for when the
            learning rate is first below the largest that there was.

    Raises:
        ValueError: an argument is out of its range.

    Reference:
        Zhang (2016), chapter 4 (ADOWNPOUR), and section 4.3.1.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        communication_period: int | None = 1,
        average_from: int | str = 0,
        jit_compile: bool | str = "auto",
        name: str = "adownpour",
        **kwargs: Any,
    ) -> None:
        core.check_average_from(average_from)
        super().__init__(
            learning_rate,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )
        self.average_from = average_from

    @property
    def center_rule(self) -> rules.Rule:
        """The center adds what is pushed, and averages over time."""
        return rules.TimeAverage.beginning(rules.Add(), self.average_from)

    def push_numbers(self, clock: tf.Tensor) -> list[tf.Tensor]:
        """Where the learning rate was cut, if the average waits for it."""
        del clock
        return self._cut_numbers()

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`."""
        del num_workers
        return rates_of_cut(numbers)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {**super().get_config(), "average_from": self.average_from}


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="mvadownpour",
    rule="as Downpour;  z += a (c - z), z is the answer",
    use="as ADownpour, and the average forgets",
    defaults={"averaging_rate": {"digits": 0.01, "cifar": 0.001}},
)
class MVADownpour(ADownpour):
    r"""DOWNPOUR with a moving average of the center as the answer.

    .. math:: z_{t+1} = (1 - a) z_t + a \tilde x_t

    Args:
        learning_rate, communication_period, jit_compile, name, **kwargs: as
            in `Downpour`.
        averaging_rate: a in (0, 1]. Default 0.001, the thesis'.
        average_from: see `ADownpour`.

    Raises:
        ValueError: an argument is out of its range.

    Reference:
        Zhang (2016), chapter 4 (MVADOWNPOUR).
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        communication_period: int | None = 1,
        averaging_rate: float = 0.001,
        average_from: int | str = 0,
        jit_compile: bool | str = "auto",
        name: str = "mvadownpour",
        **kwargs: Any,
    ) -> None:
        if not 0 < averaging_rate <= 1:
            raise ValueError(
                "`averaging_rate` must be in (0, 1]. "
                f"Received: averaging_rate={averaging_rate}."
            )
        super().__init__(
            learning_rate,
            communication_period=communication_period,
            average_from=average_from,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )
        self.averaging_rate = averaging_rate

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`."""
        rates = super().push_rates(num_workers, numbers)
        return {**rates, "averaging_rate": self.averaging_rate}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            **super().get_config(),
            "averaging_rate": self.averaging_rate,
        }
