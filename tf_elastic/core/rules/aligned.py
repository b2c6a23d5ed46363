"""Children send what they have done; what points backwards is turned."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar
from tf_elastic.core.arrays import inner_product
from tf_elastic.core.arrays import number_for
from tf_elastic.core.local_steps import lookahead_point
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import INCREMENT
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule
from tf_elastic.core.rules.gradients import MOMENTUM_RANGES
from tf_elastic.core.rules.gradients import VELOCITY

_LEAST = 1e-30  # What is nearer to 0 is 0.


@rule("aligned")
@dataclasses.dataclass(frozen=True)
class Aligned(Rule):
    r"""HeLoCo: a way that does not agree with the velocity is turned to it.

    .. math::
        d \leftarrow \rho \hat d, \quad
            v \leftarrow \mu v + (1 - \mu) d, \quad
            \tilde x \leftarrow \tilde x + \eta (d + \mu v), \quad
            x^i \leftarrow \tilde x + \eta \mu v

    where :math:`\hat d` is what a child has done, of each variable d, as
    `aligned_way` corrects it.

    Rates: "learning_rate" (eta), "momentum" (mu), "weight" (rho).

    Args:
        agreement: the cosine from which on nothing is corrected.
        shrinkage, most_shrinkage: of a way that points backwards.
        rotation: of one that points aside.
        caution: how much longer than the velocity a way has to be for half
            of a correction.
        smallest: lengths below it are none.

    Reference:
        Al Asif et al. (2026), "HeLoCo", Algorithms 1 and 2.
    """

    agreement: float = 0.2
    shrinkage: float = 0.5
    most_shrinkage: float = 0.5
    rotation: float = 1.0
    caution: float = 3.0
    smallest: float = 1e-8

    sends: ClassVar[str] = INCREMENT
    moves_by_itself: ClassVar[bool] = True
    by_variable: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **MOMENTUM_RANGES,
        "weight": (0.0, 1.0),
    }

    def init(self, center: Array) -> dict[str, Array]:
        """No velocity yet."""
        return {CENTER: center, VELOCITY: 0 * center}

    def closing(self, rates: Rates) -> Rates:
        """Without momentum: only what was done."""
        return {**rates, "momentum": 0.0}

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Takes an outer step; see `Rule.apply`."""
        del sent
        momentum = rates["momentum"]
        way = rates["weight"] * self.aligned_way(total, parent[VELOCITY])
        velocity = momentum * parent[VELOCITY] + (1 - momentum) * way
        step = rates["learning_rate"] * (way + momentum * velocity)
        return {CENTER: parent[CENTER] + step, VELOCITY: velocity}

    def aligned_way(self, way: Array, velocity: Array) -> Array:
        r"""A way, nearer to the direction of a velocity.

        With c the cosine between d and v, :math:`\hat u` and :math:`\hat v`
        their directions, and the confidence
        :math:`k = |d| / (|d| + \kappa |v| + \epsilon)`:

        .. math::
            \hat d = \begin{cases}
            d & c \ge c_{ok} \\
            d - \beta c |d| \hat v, \quad
                \beta = \min(-k_s c k, \beta_{max}) & c < 0 \\
            |d| u / |u|, \quad u = (1 - \lambda) \hat u + \lambda \hat v, \quad
                \lambda = \min(k_d (1 - c) k, 1) & \text{else}
            \end{cases}

        and d itself where one of the two is shorter than
        :math:`\epsilon`.

        Args:
            way: d, of one variable.
            velocity: v, same shape.

        Returns:
            An array of the same shape.

        Example:

        >>> import numpy as np
        >>> rule = Aligned()
        >>> way = np.array([3.0, 4.0])
        >>> print(rule.aligned_way(way, np.array([1.0, 1.0])))  # They agree.
        [3. 4.]
        >>> print(rule.aligned_way(way, np.array([0.0, -1.0])).round(2))
        [3. 3.]
        """
        least = self.smallest
        length = inner_product(way, way) ** 0.5
        speed = inner_product(velocity, velocity) ** 0.5
        is_one = _is_positive(length - least) * _is_positive(speed - least)
        length = _larger(length, least)
        speed = _larger(speed, least)
        cosine = inner_product(way, velocity) / (length * speed)
        confidence = length / (length + self.caution * speed + least)

        backwards = _is_positive(-cosine)
        beta = _smaller(
            -self.shrinkage * cosine * confidence, self.most_shrinkage
        )
        aside = (1 - backwards) * _is_positive(self.agreement - cosine)
        turned = _smaller(self.rotation * (1 - cosine) * confidence, 1.0)
        left = 1 - turned
        mixed = left * left + turned * turned + 2 * left * turned * cosine
        scale = 1 / _larger(mixed, least) ** 0.5
        of_way = 1 + is_one * aside * (left * scale - 1)
        of_direction = aside * turned * scale - backwards * beta * cosine
        of_velocity = is_one * of_direction * length / speed
        aligned: Array = (
            number_for(way, of_way) * way
            + number_for(way, of_velocity) * velocity
        )
        return aligned

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """No velocity any more; see `Rule.rest`."""
        return {**parent, VELOCITY: 0 * parent[VELOCITY]}

    def begin(self, parent: Slots[Array], rates: Rates) -> Array:
        """Where the velocity is about to take the center."""
        rate, momentum = rates.get("learning_rate"), rates.get("momentum")
        ahead: Scalar[Array] = 0.0 if rate is None else rate * momentum
        return lookahead_point(parent[CENTER], parent[VELOCITY], ahead)


def _is_positive(value: Array) -> Array:
    """1 if it is, else 0, without a branch."""
    return (value + abs(value)) / (2 * abs(value) + _LEAST)


def _larger(value: Array, other: float) -> Array:
    return (value + other + abs(value - other)) / 2


def _smaller(value: Array, other: float) -> Array:
    return (value + other - abs(value - other)) / 2
