"""Children send gradients; the center takes the steps, with momentum."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar
from typing import cast

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar
from tf_elastic.core.local_steps import lookahead_point
from tf_elastic.core.local_steps import momentum_step
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import GRADIENT
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule

VELOCITY = "velocity"
_LARGEST_RATE = 1e6
MOMENTUM_RANGES = {
    "learning_rate": (0.0, _LARGEST_RATE),
    "momentum": (-2.0, 2.0),
}


def momentum_reaches(size: float, message: float, rates: Rates) -> float:
    """`Rule.reached` of a rule with a velocity.

    The velocity first, then the center by it: no one term is larger than its
    like here.
    """
    momentum = abs(float(rates["momentum"]))
    rate = max(float(rates["learning_rate"]), 1.0)
    velocity = momentum * size + rate * message
    return size + (1 + momentum) * velocity + rate * message


@rule("heavy_ball")
@dataclasses.dataclass(frozen=True)
class HeavyBall(Rule):
    r"""Asynchronous momentum SGD.

    .. math::
        v \leftarrow \mu v - \eta u_k g / s, \quad
            \tilde x \leftarrow \tilde x + v, \quad u_k = (k + 1)^{-q}

    where k are the updates before, and s is the staleness if
    `scales_by_staleness`.

    Rates: "learning_rate" (eta), "momentum" (mu), and "compensation"
    (lambda) if `compensates`.

    Args:
        adjustment: q.
        scales_by_staleness: whether a gradient's rate is divided by s.
        compensates: whether a gradient is corrected for the way that the
            center has gone since; see `compensated_gradient`.

    Reference:
        Liu et al. (2018), eq. 1.3. u_k: He et al. (2018), section 2. s: Zhang,
        Gupta, Lian and Liu (2016), "Staleness-aware async-SGD for distributed
        deep learning", eq. 6.
    """

    adjustment: float = 0.0
    scales_by_staleness: bool = False
    compensates: bool = False

    sends: ClassVar[str] = GRADIENT
    moves_by_itself: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = MOMENTUM_RANGES

    @property
    def remembers(self) -> bool:
        """Whether the point is wanted that the child was given last."""
        return self.compensates

    def check(self, rates: Rates) -> None:
        """See `Rule.check`."""
        super().check(rates)
        value = rates.get("compensation")
        if self.compensates and not (
            value is not None and 0 <= value <= _LARGEST_RATE
        ):
            raise ValueError(
                f"The rule {self.name!r} needs the rate `compensation`, from "
                f"0 to {_LARGEST_RATE:g}. Received: "
                f"compensation={value!r:.80}."
            )

    def init(self, center: Array) -> dict[str, Array]:
        """No velocity yet."""
        return {CENTER: center, VELOCITY: 0 * center}

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """The learning rate of this update."""
        learning_rate = rates["learning_rate"]
        if self.adjustment:
            learning_rate = (
                learning_rate * (context.version + 1) ** -self.adjustment
            )
        if self.scales_by_staleness:
            learning_rate = learning_rate / context.staleness
        return {**rates, "learning_rate": learning_rate}

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Takes a step; see `Rule.apply`."""
        if self.compensates:
            total = compensated_gradient(
                total,
                self.begin(parent, rates),
                cast(Array, sent),  # It `remembers`.
                rates["compensation"],
            )
        moved = momentum_step(
            parent[CENTER],
            parent[VELOCITY],
            total,
            rates["learning_rate"],
            rates["momentum"],
        )
        return {CENTER: moved.parameters, VELOCITY: moved.velocity}

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """No velocity any more; see `Rule.rest`."""
        return {**parent, VELOCITY: 0 * parent[VELOCITY]}

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`."""
        if self.compensates:  # What was sent may be larger than all there is.
            return None
        return momentum_reaches(size, message, rates)


@rule("nesterov")
@dataclasses.dataclass(frozen=True)
class Nesterov(HeavyBall):
    r"""Momentum DOWNPOUR: workers go on from :math:`\tilde x + \delta v`.

    Rates: "learning_rate" (eta), "momentum" (delta).

    Reference:
        Zhang (2016), Algorithms 4 and 5.
    """

    def begin(self, parent: Slots[Array], rates: Rates) -> Array:
        """The look-ahead point."""
        momentum: Scalar[Array] = rates.get("momentum", 0.0)
        return lookahead_point(parent[CENTER], parent[VELOCITY], momentum)


@rule("mean_gradient")
@dataclasses.dataclass(frozen=True)
class MeanGradient(Rule):
    r"""Synchronous SGD: one step by the mean of the gradients that came.

    .. math::
        v \leftarrow \mu v - \frac\eta m \sum_i g^i, \quad
            \tilde x \leftarrow \tilde x + v

    over the m gradients that are in the sum: all p, or the first m, if more
    are not waited for.

    Rates: "learning_rate" (eta), "momentum" (mu).

    Reference:
        Begunov and Tyurin (2026), "Do we need asynchronous SGD?"; Chen et al.
        (2016), "Revisiting distributed synchronous SGD".
    """

    sends: ClassVar[str] = GRADIENT
    moves_by_itself: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = MOMENTUM_RANGES

    def init(self, center: Array) -> dict[str, Array]:
        """No velocity yet."""
        return {CENTER: center, VELOCITY: 0 * center}

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """Adds the share that each has in the mean."""
        return {**rates, "share": 1 / context.count}

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Takes a step; see `Rule.apply`."""
        del sent
        moved = momentum_step(
            parent[CENTER],
            parent[VELOCITY],
            rates["share"] * total,
            rates["learning_rate"],
            rates["momentum"],
        )
        return {CENTER: moved.parameters, VELOCITY: moved.velocity}

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """No velocity any more; see `Rule.rest`."""
        return {**parent, VELOCITY: 0 * parent[VELOCITY]}

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`."""
        return momentum_reaches(size, rates["share"] * message, rates)


def compensated_gradient(
    gradient: Array, point: Array, sent: Array, compensation: Scalar[Array]
) -> Array:
    r"""A stale gradient, corrected to first order for the way since.

    .. math:: g + \lambda g \odot g \odot (x - x_{sent})

    where :math:`g \odot g` stands for the diagonal of the Hessian.

    Args:
        gradient: g, taken at `sent`; floating, any shape.
        point: x, where the center is now; same shape.
        sent: the point that the worker was given; same shape.
        compensation: :math:`\lambda \ge 0`, a scalar.

    Returns:
        An array of the same shape.

    Example:

    >>> compensated_gradient(2.0, point=1.5, sent=1.0, compensation=0.5)
    3.0

    Reference:
        Zheng et al. (2017), "Asynchronous stochastic gradient descent with
        delay compensation", eq. 10.
    """
    return gradient + compensation * gradient * gradient * (point - sent)
