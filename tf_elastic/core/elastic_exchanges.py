"""An elastic exchange of several workers on arrays, in each of the orders."""

from collections.abc import Sequence
from typing import Generic

from tf_elastic.core import orders
from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import NamedTuple
from tf_elastic.core.arrays import Scalar
from tf_elastic.core.rules import Elastic


class Exchanged(NamedTuple, Generic[Array]):
    """Workers and center after an exchange."""

    workers: list[Array]  # p arrays, each of the center's shape
    center: Array  # floating, any shape


def jacobi_exchange(
    workers: Sequence[Array],
    center: Array,
    moving_rate: Scalar[Array],
    beta: Scalar[Array],
) -> Exchanged[Array]:
    r"""All workers exchange at once, each with the center as it was.

    .. math::
        x^i &\leftarrow x^i - \alpha (x^i - \tilde x) \\
        \tilde x &\leftarrow (1 - \beta) \tilde x
            + \beta \frac1p \sum_i x^i

    Args:
        workers: the p arrays :math:`x^i`, floating, any shape.
        center: :math:`\tilde x`, same shape.
        moving_rate: :math:`\alpha`, a scalar.
        beta: :math:`\beta`, a scalar.

    Returns:
        `Exchanged` workers and center.

    Example:

    >>> jacobi_exchange([3.0, 2.0], 1.0, moving_rate=0.25, beta=0.5)
    Exchanged(workers=[2.5, 1.75], center=1.75)

    Reference:
        Zhang (2016), eqs. 2.3 and 2.4 without the gradient.
    """
    return _exchanged(orders.jacobi, workers, center, moving_rate, beta)


def round_robin_exchange(
    workers: Sequence[Array],
    center: Array,
    moving_rate: Scalar[Array],
    beta: Scalar[Array],
) -> Exchanged[Array]:
    r"""The workers come to the center one after another, first to last.

    Each finds the center as those before it have left it. This is Algorithm 1
    served in a fixed order.

    Args:
        workers: the arrays :math:`x^i` in the order of service.
        center: :math:`\tilde x`, same shape.
        moving_rate: :math:`\alpha`, a scalar.
        beta: :math:`\beta`, a scalar; each worker moves the center by
            :math:`\beta / p`.

    Returns:
        `Exchanged` workers and center.

    Example:

    >>> round_robin_exchange([3.0, 2.0], 1.0, moving_rate=0.25, beta=0.5)
    Exchanged(workers=[2.5, 1.875], center=1.625)

    Reference:
        Zhang (2016), Algorithm 1; eqs. 3.55 and 3.56.
    """
    return _exchanged(orders.round_robin, workers, center, moving_rate, beta)


def gauss_seidel_exchange(
    workers: Sequence[Array],
    center: Array,
    moving_rate: Scalar[Array],
    beta: Scalar[Array],
) -> Exchanged[Array]:
    r"""The center moves first, then the workers move to where it now is.

    .. math::
        \tilde x &\leftarrow \tilde x
            + \frac{\beta}{p} \sum_i (x^i - \tilde x) \\
        x^i &\leftarrow x^i - \alpha (x^i - \tilde x)

    This is what happens between the last gradient step of one period and the
    first of the next. With alpha = 1 and beta = p it is DOWNPOUR.

    Args:
        workers: the p arrays :math:`x^i`, floating, any shape.
        center: :math:`\tilde x`, same shape.
        moving_rate: :math:`\alpha`, a scalar.
        beta: :math:`\beta`, a scalar.

    Returns:
        `Exchanged` workers and center.

    Example:

    >>> gauss_seidel_exchange([3.0, 2.0], 1.0, moving_rate=0.25, beta=0.5)
    Exchanged(workers=[2.6875, 1.9375], center=1.75)

    Reference:
        Zhang (2016), eq. 6.3: its third line, then its first.
    """
    return _exchanged(orders.gauss_seidel, workers, center, moving_rate, beta)


def _exchanged(
    order: orders.Order,
    workers: Sequence[Array],
    center: Array,
    moving_rate: Scalar[Array],
    beta: Scalar[Array],
) -> Exchanged[Array]:
    place = orders.OfArrays(
        Elastic(),
        workers,
        center,
        {"moving_rate": moving_rate, "beta": beta},
    )
    order(place)
    return Exchanged(place.points, place.center)
