"""Averages over time of a sequence of parameters."""

from typing import Any

Array = Any  # a NumPy array or a TensorFlow tensor, floating, any shape


def time_average(average: Array, value: Array, rate: Any) -> Array:
    r"""One step of an average over time.

    .. math:: z_{t+1} = (1 - a_{t+1}) z_t + a_{t+1} x_t

    With :math:`a_{t+1} = 1 / (t + 1)` (`polyak_rate`) this is the mean of
    everything seen so far; with a constant it forgets at that rate.

    Args:
        average: :math:`z_t`, floating, any shape.
        value: :math:`x_t`, same shape.
        rate: :math:`a_{t+1}` in [0, 1], a scalar.

    Returns:
        :math:`z_{t+1}`, same shape.

    Example:

    >>> time_average(1.0, 3.0, rate=0.25)
    1.5

    Reference:
        Zhang (2016), chapter 4: ASGD and MVASGD (and ADOWNPOUR and
        MVADOWNPOUR, where x is the center).
    """
    return (1 - rate) * average + rate * value


def polyak_rate(step: Any) -> Any:
    r"""The rate :math:`a_{t+1} = 1 / (t + 1)` of Polyak's average.

    Args:
        step: t, starting from 0; a number or a floating scalar tensor.

    Returns:
        A scalar in (0, 1].

    Example:

    >>> [polyak_rate(t) for t in range(4)]
    [1.0, 0.5, 0.3333333333333333, 0.25]

    Reference:
        Zhang (2016), chapter 4, after Polyak and Juditsky (1992).
    """
    return 1 / (step + 1)
