"""The alternating direction method of multipliers, as a comparator."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers import worker_copies
from tf_elastic.optimizers.exchange_spec import AdmmSpec
from tf_elastic.optimizers.exchange_spec import AdmmVariable
from tf_elastic.optimizers.own_step import LearningRate
from tf_elastic.optimizers.push_optimizer import PushOptimizer
from tf_elastic.optimizers.registry import register
from tf_elastic.optimizers.strategy_interface import Gradient


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    family="ADMM",
    rule="l_i -= x_i - c;  x_i = (x_i - eta g_i + eta rho (l_i + c)) / "
    "(1 + eta rho);  c = mean of x_i - l_i",
    orders=("round_robin",),
    protocols=("blocking",),
    refusal=(
        "the thesis defines it for workers that are served one after another "
        "(eqs. 3.52 to 3.54)"
    ),
    up="difference",
    down="parameters",
    worker_memory=5,
    stable="no closed form; `theory.round_robin.admm_map`; it has gaps",
    use="a comparator",
    reference="Zhang (2016), eqs. 3.52 to 3.54",
    defaults={"learning_rate": {"digits": 0.1, "cifar": 0.05}},
    refuses={"weight_decay": "its step is one to the center"},
)
class ADMM(PushOptimizer):
    r"""Asynchronous ADMM, linearised: the thesis' comparator.

    At its turn worker i reads the center, and

    .. math::
        \lambda^i &\leftarrow \lambda^i - (x^i - \tilde x) \\
        x^i &\leftarrow \frac{x^i - \eta g^i(x^i)
            + \eta \rho (\lambda^i + \tilde x)}{1 + \eta \rho} \\
        \tilde x &\leftarrow \frac1p \sum_j (x^j - \lambda^j)

    With a longer period the second line is repeated :math:`\tau` times
    between the first and the third.

    Args:
        learning_rate: :math:`\eta`: float, schedule or callable. Default
            0.01.
        elasticity: :math:`\rho > 0`. Default 1.
        communication_period: :math:`\tau`, local steps, >= 1. Default 1.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.
        **kwargs: as in `keras.optimizers.Optimizer`, but for `weight_decay`.

    Raises:
        ValueError: an argument is out of its range or has no meaning here;
            the strategy has no such exchange.

    Served in turn it may diverge slowly where each visit alone is stable
    (p = 3, eta = 0.001, rho = 2.5 does): see `theory.round_robin.admm_map`.

    Reference:
        Zhang (2016), eqs. 3.51 to 3.54; Zhang and Kwok (2014).
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        elasticity: float = 1.0,
        communication_period: int = 1,
        jit_compile: bool | str = "auto",
        name: str = "admm",
        **kwargs: Any,
    ) -> None:
        core.check_rate("elasticity", elasticity)
        if communication_period is None or kwargs.get("weight_decay"):
            raise ValueError(
                "ADMM needs a `communication_period` and has no "
                "`weight_decay`: its step is one towards the center. "
                f"Received: communication_period={communication_period}, "
                f"weight_decay={kwargs.get('weight_decay')}. Give the layers "
                "a `kernel_regularizer`."
            )
        super().__init__(
            learning_rate,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )
        self.elasticity = elasticity

    def _is_due(self, clock: tf.Tensor) -> tf.Tensor:
        """Every step is taken in the exchange."""
        return tf.ones_like(clock, tf.bool)

    _slot_kind = rules.GRADIENT  # its steps are taken in the exchange

    @property
    def center_rule(self) -> rules.Rule:
        """The center is the mean of the workers' parts."""
        return rules.MeanOfParts()

    def push_numbers(self, clock: tf.Tensor) -> list[tf.Tensor]:
        """The learning rate of a step."""
        return [self._learning_rate_of(clock)]

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        super()._build_variables(variables)
        self._multipliers = self.add_optimizer_variables(
            variables, "multiplier"
        )
        worker_copies.begin_anew_with(
            self, variables, self._multipliers, tf.zeros_like
        )
        self._anchors = worker_copies.copies_of(self, variables, "anchor")
        self._pushed = worker_copies.copies_of(self, variables, "pushed")

    def _exchange_spec(self, variables: Sequence[keras.Variable]) -> AdmmSpec:
        kept = (
            variables,
            self._slots,
            self._multipliers,
            self._anchors,
            self._pushed,
        )
        return AdmmSpec(
            self.method_name,
            self.center_rule,
            [
                AdmmVariable(*(compat.native_variable(v) for v in fields))
                for fields in zip(*kept, strict=True)
            ],
            self.elasticity,
            self.communication_period,
            self._numbers,
            self._calls_per_step(),
        )

    def update_step(
        self,
        gradient: Gradient,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """Keeps the gradient for the step that follows; a sparse one filled."""
        del learning_rate
        slot = self._slots[self._get_variable_index(variable)]
        self.assign(slot, tf.convert_to_tensor(gradient))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        config.pop("weight_decay", None)
        return {**config, "elasticity": self.elasticity}
