"""The alternating direction method of multipliers, as the thesis has it."""

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar


def dual_step(multiplier: Array, worker: Array, center: Array) -> Array:
    r"""The dual ascent :math:`\lambda^i - (x^i - \tilde x)`.

    Args:
        multiplier: :math:`\lambda^i` (already divided by rho), any shape.
        worker: :math:`x^i`, same shape.
        center: :math:`\tilde x`, same shape.

    Returns:
        The new multiplier, same shape.

    Example:

    >>> dual_step(0.5, worker=3.0, center=1.0)
    -1.5

    Reference:
        Zhang (2016), eq. 3.52.
    """
    return multiplier - (worker - center)


def proximal_step(
    worker: Array,
    gradient: Array,
    multiplier: Array,
    center: Array,
    learning_rate: Scalar[Array],
    elasticity: Scalar[Array],
) -> Array:
    r"""A linearised step towards :math:`\lambda^i + \tilde x`.

    .. math::
        x \leftarrow \frac{x - \eta g + \eta \rho (\lambda + \tilde x)}
            {1 + \eta \rho}

    Args:
        worker: :math:`x^i`, floating, any shape.
        gradient: of :math:`x^i`, same shape.
        multiplier: :math:`\lambda^i`, same shape.
        center: :math:`\tilde x`, same shape.
        learning_rate: :math:`\eta \ge 0`, a scalar.
        elasticity: :math:`\rho \ge 0`, a scalar.

    Returns:
        The new :math:`x^i`, same shape.

    Example:

    >>> proximal_step(1.0, 2.0, 0.0, 3.0, learning_rate=0.5, elasticity=2.0)
    1.5

    Reference:
        Zhang (2016), eq. 3.53.
    """
    pull = learning_rate * elasticity
    moved = worker - learning_rate * gradient + pull * (multiplier + center)
    return moved / (1 + pull)


def contribution(worker: Array, multiplier: Array) -> Array:
    r"""A worker's part :math:`x^i - \lambda^i` of the center.

    The center is the mean of all workers' parts, so it moves by a p-th of
    what a part has changed by (`core.push` with beta = 1).

    Args:
        worker: :math:`x^i`, floating, any shape.
        multiplier: :math:`\lambda^i`, same shape.

    Returns:
        An array of the same shape.

    Example:

    >>> contribution(3.0, 0.5)
    2.5

    Reference:
        Zhang (2016), eq. 3.54.
    """
    return worker - multiplier
