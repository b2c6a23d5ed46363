"""Averages over time of a sequence of parameters."""

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar

_LARGEST_COUNT = 2**53  # Up to here float64 counts.


def time_average(average: Array, value: Array, rate: Scalar[Array]) -> Array:
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


def averaging_rate(
    step: Array, rate: Array | None = None, average_from: int = 0
) -> Array:
    r"""The rate of an average that begins later than the sequence does.

    .. math::
        a_{t+1} = 1 \text{ for } t \le s, \quad \text{then }
            \frac{1}{t - s + 1} \text{ or a constant } a

    So :math:`z_{s+1} = x_s`, and what was before is forgotten.

    Args:
        step: t, a whole number from 0; or a floating scalar tensor.
        rate: a in [0, 1], a scalar; None for Polyak's.
        average_from: s, an integer >= 0.

    Returns:
        A scalar in [0, 1].

    Example:

    >>> [averaging_rate(t, None, average_from=2) for t in range(5)]
    [1.0, 1.0, 1.0, 0.5, 0.3333333333333333]
    >>> [averaging_rate(t, 0.25, average_from=2) for t in range(4)]
    [1.0, 1.0, 1.0, 0.25]

    Reference:
        Zhang (2016), section 4.3.1, which begins it when the learning rate is
        reduced for the first time.
    """
    if rate is None:
        since = step if not average_from else _positive(step - average_from)
        return polyak_rate(since)
    if not average_from:
        return rate
    before = is_before(step, average_from + 1)
    return before + (1 - before) * rate


def is_before(step: Array, average_from: int) -> Array:
    """1 while an average has not begun yet, else 0, without a branch.

    Args:
        step: t, a whole number from 0; or a floating scalar tensor.
        average_from: s, an integer >= 0.

    Example:

    >>> [is_before(t, average_from=2) for t in range(4)]
    [1.0, 1.0, 0.0, 0.0]
    """
    left = _positive(average_from - step)
    return left - _positive(left - 1)


def _positive(value: Array) -> Array:
    """max(value, 0), of a number or a scalar tensor."""
    return (value + abs(value)) / 2


def check_average_from(value: object) -> None:
    """Refuses what is no count of updates.

    Raises:
        ValueError: it is no integer from 0 to 2**53.
    """
    if type(value) is not int or not 0 <= value <= _LARGEST_COUNT:
        raise ValueError(
            "`average_from` must be an integer from 0 to 2**53: how many "
            "updates of the center come before its average begins. "
            f"Received: average_from={value!r:.80}."
        )


def polyak_rate(step: Array) -> Array:
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
