"""What the elastic optimizers have in common."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import core
from tf_elastic import theory
from tf_elastic.core import rules
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import vector_of
from tf_elastic.optimizers.late_average import LateAverage
from tf_elastic.optimizers.late_average import check_has_average
from tf_elastic.optimizers.late_average import rates_of_cut
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.registry import register
from tf_elastic.optimizers.strategy_interface import ElasticExtended


@register(
    listed=False,
    family="elastic averaging",
    rule="x_i -= alpha (x_i - c);  c += beta / p (x_i - c)",
    orders=("jacobi", "gauss_seidel", "round_robin"),
    protocols=("overlapped", "blocking", "synchronous"),
    up="parameters",
    down="difference",
    worker_memory=1,
    stable="eta h <= 2; alpha <= (4 - 2 eta h) / (4 - eta h)",
    use="a base for your own",
    reference="Zhang (2016), Algorithm 1",
)
class ElasticOptimizer(LateAverage):
    r"""Base class: a local step, and an elastic exchange every tau of them.

    Args:
        learning_rate: float, schedule or callable, at least 0.
        moving_rate: :math:`\alpha`, how much of its difference to the center
            a worker gives up in an exchange. Default: beta / p.
        beta: how much of the workers' mean difference the center takes up.
            Default: p * moving_rate, or 0.9 if neither is given.
        communication_period: :math:`\tau`, the local steps between two
            exchanges, an integer >= 1; None for no exchange at all.
        symmetric: with False, `moving_rate` and `beta` need not satisfy
            beta = p * moving_rate, and both must be given; `moving_rate`
            may then be negative (sections 5.1.3 and 5.2.3), with a warning.
        jit_compile: whether update and exchange are compiled by XLA: True,
            False or "auto" (default: where the device can).
        center_average: of what is evaluated and saved: None (default) for
            the center; `"polyak"` for the mean of all centers so far, with
            EASGD the double average of eq. 3.13; a number a in (0, 1] for
            the moving average :math:`z \leftarrow (1 - a) z + a \tilde x`,
            at each update of the center.
        average_from: how many updates of the center come before its average
            begins, an integer >= 0 (default); until then the center is
            shown. See `core.averaging_rate`. `"first_cut"` for when the
            learning rate is first below the largest that there was.
        **kwargs: as in `CenterOptimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        moving_rate: float | None = None,
        beta: float | None = None,
        communication_period: int | None = 10,
        symmetric: bool = True,
        jit_compile: bool | str = "auto",
        center_average: str | float | None = None,
        average_from: int | str = 0,
        **kwargs: Any,
    ) -> None:
        _check_center_average(center_average)
        check_has_average(center_average, average_from)
        core.check_moving_rate(moving_rate, symmetric)
        core.check_rate("beta", beta)
        super().__init__(
            learning_rate,
            communication_period=communication_period,
            jit_compile=jit_compile,
            **kwargs,
        )
        self.moving_rate = moving_rate
        self.beta = beta
        self.symmetric = symmetric
        self.center_average = center_average
        self.average_from = average_from
        self._elastic_rates = None
        self._built_for = 0

    def _prepare(self, extended: ElasticExtended) -> None:
        self._built_for = extended.num_workers
        self._elastic_rates = core.elastic_rates(
            extended.num_workers, self.moving_rate, self.beta, self.symmetric
        )
        if self.communication_period is None:
            return
        theory.warn_if_unstable(
            self._elastic_rates,
            extended.num_workers,
            extended.order_of(self.method_name),
        )
        if extended.overlaps(self.method_name):
            theory.warn_if_overlap_swings(
                "EAMSGD",
                num_workers=extended.num_workers,
                communication_period=self.communication_period,
                momentum=getattr(self, "momentum", 0.0),
                nesterov=getattr(self, "nesterov", False),
                **self._elastic_rates._asdict(),
            )

    @property
    def center_rule(self) -> rules.Rule:
        """Workers and center attract each other."""
        if self.center_average is None:
            return rules.Elastic()
        return rules.TimeAverage.beginning(rules.Elastic(), self.average_from)

    def _rates_by_name(
        self,
        num_workers: int,
        clock: int | tf.Tensor,
        numbers: Sequence[float | tf.Tensor],
    ) -> rules.Rates:
        rates = self.rates(num_workers, clock)._asdict()
        if self.center_average is not None:
            is_mean = self.center_average == "polyak"
            rates["averaging_rate"] = None if is_mean else self.center_average
        return {**rates, **rates_of_cut(numbers)}

    def _exchange_spec(
        self, variables: Sequence[keras.Variable]
    ) -> ExchangeSpec:
        return ExchangeSpec(
            self.method_name,
            self.center_rule,
            self._exchanged_variables(variables),
            self._rates_by_name,
            lambda clock: vector_of(self._cut_numbers()),
            self._center_numbers,
            self.communication_period,
            self._calls_per_step(),
        )

    def _exchanged_variables(
        self, variables: Sequence[keras.Variable]
    ) -> list[ExchangedVariable]:
        """What is exchanged of each variable."""
        return [
            ExchangedVariable(
                compat.native_variable(variable), parent=self._parent_of(k)
            )
            for k, variable in enumerate(variables)
        ]

    def rates(
        self, num_workers: int, clock: int | tf.Tensor
    ) -> core.ElasticRates:
        r"""The rates of an exchange.

        Args:
            num_workers: p; where workers come and go, that of the moment.
            clock: the worker's local steps, an integer or a tensor.

        Returns:
            :math:`\alpha` and :math:`\beta`. If p is not the one that the
            optimizer was built for, :math:`\alpha = \beta / p` follows,
            or :math:`\beta` where only `moving_rate` was given.
        """
        del clock
        if num_workers == self._built_for or not self.symmetric:
            return self._elastic_rates
        if self.beta is not None:
            return core.elastic_rates(num_workers, beta=self.beta)
        return core.elastic_rates(num_workers, self.moving_rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            **super().get_config(),
            "moving_rate": self.moving_rate,
            "beta": self.beta,
            "symmetric": self.symmetric,
            "center_average": self.center_average,
            "average_from": self.average_from,
        }


def _check_center_average(value: float | str | None) -> None:
    is_rate = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (value in (None, "polyak") or (is_rate and 0 < value <= 1)):
        raise ValueError(
            '`center_average` must be None, "polyak", or a number in (0, 1]. '
            f"Received: center_average={value!r}."
        )
