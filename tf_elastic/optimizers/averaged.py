"""The sequential baselines that answer with an average over time."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers.easgd import EASGD
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.registry import register


class _SequentialAverage(EASGD):
    """SGD on one worker; the center is an average of where it has been.

    In the words of the elastic family: period 1, the worker is not pulled
    (alpha = 0), and the center follows with a rate of its own.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        average_from: int | str,
        name: str,
        **kwargs: Any,
    ) -> None:
        for argument in (
            "moving_rate",
            "communication_period",
            "symmetric",
            "center_average",
        ):
            if argument in kwargs:
                raise ValueError(
                    f"`{argument}` has no meaning for {type(self).__name__}: "
                    "its worker is not pulled, and the average follows at "
                    f"every step. Received: {argument}={kwargs[argument]}. "
                    "Leave it out."
                )
        super().__init__(
            learning_rate,
            moving_rate=0.0,
            communication_period=1,
            symmetric=False,
            name=name,
            **kwargs,
        )
        core.check_average_from(average_from)
        self.average_from = average_from

    @property
    def _constant_rate(self) -> float | None:
        """Of the average; None for Polyak's."""
        return None

    def rates(
        self, num_workers: int, clock: int | tf.Tensor
    ) -> core.ElasticRates:
        """The rates of an exchange; see `ElasticOptimizer.rates`.

        Of an average that waits for the first cut, before that.
        """
        return core.ElasticRates(**self._rates_by_name(num_workers, clock, [0]))

    def _rates_by_name(
        self,
        num_workers: int,
        clock: int | tf.Tensor,
        numbers: Sequence[float | tf.Tensor],
    ) -> rules.Rates:
        del num_workers
        if tf.is_tensor(clock):
            clock = tf.cast(clock, tf.float64)
        start = self.average_from
        if start == core.FIRST_CUT:
            [cut_at] = numbers
            begun = core.is_before(0, cut_at)
            _, start = core.first_cut(clock, 0, begun, cut_at)
        beta = core.averaging_rate(clock, self._constant_rate, start)
        return {"moving_rate": 0.0, "beta": beta}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        for name in ("moving_rate", "beta", "communication_period"):
            del config[name]
        del config["symmetric"], config["center_average"]
        return config


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    family="sequential averages",
    rule="z += (x - z) / (t + 1)",
    stable="eta h < 2",
    use="one worker: the sequential baseline of the thesis",
    reference="Zhang (2016), chapter 4",
    one_worker=True,
)
class AveragedSGD(_SequentialAverage):
    r"""Averaged SGD: the answer is the mean of all points so far.

    .. math::
        x_{t+1} &= x_t - \eta g_t(x_t) \\
        z_{t+1} &= (1 - a_{t+1}) z_t + a_{t+1} x_t, \quad
            a_{t+1} = \frac{1}{t + 1}

    z is the center: what is evaluated, predicted with and saved.

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.01; the thesis uses 0.005 to 0.05 for CIFAR.
        average_from: how many steps come before the average begins, an
            integer >= 0 (default): z is then the mean of all points since.
            Until then z is the last point. See `core.averaging_rate`.
            `"first_cut"` for the first step whose learning rate is below
            the largest before it: the thesis' choice for ImageNet.
        name: name of the optimizer.
        **kwargs: `jit_compile`, and as in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: an argument is out of its range or has no meaning here;
            the strategy has more than one worker.

    If the average lags far behind, start it later or use `MovingAverageSGD`.

    Reference:
        Zhang (2016), chapter 4, after Polyak and Juditsky (1992), and section
        4.3.1.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        average_from: int | str = 0,
        name: str = "averaged_sgd",
        **kwargs: Any,
    ) -> None:
        if "beta" in kwargs:
            raise ValueError(
                "`beta` has no meaning for AveragedSGD: its average moves by "
                f"1 / (t + 1). Received: beta={kwargs['beta']}. Use "
                "`MovingAverageSGD` for a constant rate."
            )
        super().__init__(
            learning_rate,
            average_from=average_from,
            beta=1.0,
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    family="sequential averages",
    rule="z += a (x - z)",
    stable="eta h < 2",
    use="one worker: the sequential baseline of the thesis",
    reference="Zhang (2016), chapter 4",
    one_worker=True,
    defaults={"averaging_rate": {"digits": 0.01, "cifar": 0.001}},
)
class MovingAverageSGD(_SequentialAverage):
    r"""SGD with a moving average of constant rate as the answer.

    .. math::
        x_{t+1} &= x_t - \eta g_t(x_t) \\
        z_{t+1} &= (1 - a) z_t + a x_t

    z is the center: what is evaluated, predicted with and saved.

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.01.
        averaging_rate: a in (0, 1]. Default 0.001, the thesis'.
        average_from: how many steps come before the average begins, as in
            `AveragedSGD`.
        name: name of the optimizer.
        **kwargs: `jit_compile`, and as in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: an argument is out of its range or has no meaning here;
            the strategy has more than one worker.

    If the center lags behind the worker, raise `averaging_rate`.

    Reference:
        Zhang (2016), chapter 4.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        averaging_rate: float = 0.001,
        average_from: int | str = 0,
        name: str = "moving_average_sgd",
        **kwargs: Any,
    ) -> None:
        if not 0 < averaging_rate <= 1:
            raise ValueError(
                "`averaging_rate` must be in (0, 1]. "
                f"Received: averaging_rate={averaging_rate}."
            )
        if "beta" in kwargs:
            raise ValueError(
                "`beta` is called `averaging_rate` in MovingAverageSGD. "
                f"Received: beta={kwargs['beta']}."
            )
        super().__init__(
            learning_rate,
            average_from=average_from,
            beta=averaging_rate,
            name=name,
            **kwargs,
        )
        self.averaging_rate = averaging_rate

    @property
    def _constant_rate(self) -> float | None:
        return self.averaging_rate

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            **super().get_config(),
            "averaging_rate": self.averaging_rate,
        }
