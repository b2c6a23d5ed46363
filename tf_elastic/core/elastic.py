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

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar


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


def pull(worker: Array, difference: Array, moving_rate: Scalar[Array]) -> Array:
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
    center: Array,
    summed_differences: Array,
    beta: Scalar[Array],
    num_workers: int,
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


def conserved_sum(
    workers: Sequence[Array], center: Array, share: Scalar[Array] = 1.0
) -> Array:
    r"""What an exchange leaves as it was, if :math:`\beta = p \alpha`.

    .. math:: \sum_i x^i + s \tilde x

    Args:
        workers: the p arrays :math:`x^i`, floating, any shape.
        center: :math:`\tilde x`, same shape.
        share: s: 1 for the orders Jacobi and round robin, 1 - beta for
            Gauss-Seidel.

    Returns:
        An array of the same shape.

    Example:

    >>> conserved_sum([3.0, 2.0], 1.0)
    6.0
    >>> conserved_sum([2.5, 1.75], 1.75)  # the same after an exchange
    6.0

    Reference:
        Zhang (2016), section 2.1 (the elastic symmetry).
    """
    total = workers[0]
    for worker in workers[1:]:
        total = total + worker
    return total + share * center
