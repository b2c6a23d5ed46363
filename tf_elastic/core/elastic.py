"""The elastic exchange between workers and their center.

Every form is built from three pieces: the difference between a worker and the
center, the *pull* of the worker towards the center (rate alpha), and the
*push* of the center towards the workers (rate beta / p each). With
beta = p * alpha (the default of the papers) pull and push are equal and
opposite, so that an exchange of all at once, or of one after another, leaves
``sum(workers) + center`` as it was. In the Gauss-Seidel form, where the
workers move to a center that has moved, ``sum(workers) + (1 - beta) * center``
stays.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

Array = Any  # a NumPy array or a TensorFlow tensor, floating, any shape


class Exchanged(NamedTuple):
    """Workers and center after an exchange."""

    workers: list[Array]  # p arrays, each of the center's shape
    center: Array  # floating, any shape


def elastic_difference(worker: Array, center: Array) -> Array:
    r"""The difference :math:`x^i - \tilde x` that an exchange acts on.

    Args:
        worker: :math:`x^i`, floating, any shape.
        center: :math:`\tilde x`, same shape.

    Returns:
        An array of the same shape.

    Example:

    >>> elastic_difference(3.0, 1.0)
    2.0

    Reference:
        Zhang (2016), eq. 2.1.
    """
    return worker - center


def pull(worker: Array, difference: Array, moving_rate: Any) -> Array:
    r"""Moves a worker towards the center: :math:`x^i - \alpha d^i`.

    Args:
        worker: :math:`x^i`, floating, any shape.
        difference: :math:`d^i = x^i - \tilde x`, same shape.
        moving_rate: :math:`\alpha`, a scalar.

    Returns:
        The worker after the exchange, same shape.

    Example:

    >>> pull(3.0, 2.0, moving_rate=0.25)
    2.5

    Reference:
        Zhang (2016), eq. 2.3 and Algorithm 1, step a).
    """
    return worker - moving_rate * difference


def push(
    center: Array, summed_differences: Array, beta: Any, num_workers: int
) -> Array:
    r"""Moves the center towards workers.

    .. math:: \tilde x + \frac{\beta}{p} \sum_i d^i

    With the differences of all p workers this is eq. 2.4; with that of one
    worker it is what the master does when that worker comes (Algorithm 1).

    Args:
        center: :math:`\tilde x`, floating, any shape.
        summed_differences: :math:`\sum_i d^i` over the workers that take
            part, same shape.
        beta: :math:`\beta`, a scalar.
        num_workers: p, also when fewer workers take part.

    Returns:
        The center after the exchange, same shape.

    Example:

    >>> push(1.0, 2.0, beta=0.5, num_workers=2)
    1.5

    Reference:
        Zhang (2016), eq. 2.4 and Algorithm 1, step b).
    """
    return center + (beta / num_workers) * summed_differences


def jacobi_exchange(
    workers: Sequence[Array], center: Array, moving_rate: Any, beta: Any
) -> Exchanged:
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
    differences = [elastic_difference(worker, center) for worker in workers]
    return Exchanged(
        [
            pull(worker, difference, moving_rate)
            for worker, difference in zip(workers, differences, strict=True)
        ],
        push(center, _sum(differences), beta, len(workers)),
    )


def round_robin_exchange(
    workers: Sequence[Array], center: Array, moving_rate: Any, beta: Any
) -> Exchanged:
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
    moved = []
    for worker in workers:
        difference = elastic_difference(worker, center)
        moved.append(pull(worker, difference, moving_rate))
        center = push(center, difference, beta, len(workers))
    return Exchanged(moved, center)


def gauss_seidel_exchange(
    workers: Sequence[Array], center: Array, moving_rate: Any, beta: Any
) -> Exchanged:
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
    differences = [elastic_difference(worker, center) for worker in workers]
    center = push(center, _sum(differences), beta, len(workers))
    return Exchanged(
        [
            pull(worker, elastic_difference(worker, center), moving_rate)
            for worker in workers
        ],
        center,
    )


def conserved_sum(
    workers: Sequence[Array], center: Array, share: Any = 1.0
) -> Array:
    r"""What an exchange leaves as it was, if :math:`\beta = p \alpha`.

    .. math:: \sum_i x^i + s \tilde x

    Args:
        workers: the p arrays :math:`x^i`, floating, any shape.
        center: :math:`\tilde x`, same shape.
        share: s: 1 for `jacobi_exchange` and `round_robin_exchange`,
            1 - beta for `gauss_seidel_exchange`.

    Returns:
        An array of the same shape.

    Example:

    >>> conserved_sum([3.0, 2.0], 1.0)
    6.0
    >>> after = jacobi_exchange([3.0, 2.0], 1.0, moving_rate=0.25, beta=0.5)
    >>> conserved_sum(after.workers, after.center)
    6.0

    Reference:
        Zhang (2016), section 2.1 (the elastic symmetry).
    """
    return _sum(workers) + share * center


def _sum(arrays: Sequence[Array]) -> Array:
    """Sums in the order given, so that a result can be reproduced."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total
