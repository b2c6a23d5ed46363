"""Averages over time of a sequence of parameters."""

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar

# An average that begins when a learning rate is reduced for the first time.
FIRST_CUT = "first_cut"

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
    step: Array, rate: Array | None = None, average_from: Scalar[Array] = 0
) -> Array:
    r"""The rate of an average that begins later than the sequence does.

    .. math::
        a_{t+1} = 1 \text{ for } t \le s, \quad \text{then }
            \frac{1}{t - s + 1} \text{ or a constant } a

    So :math:`z_{s+1} = x_s`, and what was before is forgotten.

    Args:
        step: t, a whole number from 0; or a floating scalar tensor.
        rate: a in [0, 1], a scalar; None for Polyak's.
        average_from: s, an integer >= 0; or a scalar tensor.

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
        if _is_zero(average_from):
            return polyak_rate(step)
        return polyak_rate(_positive(step - average_from))
    if _is_zero(average_from):
        return rate
    before = is_before(step, average_from + 1)
    return before + (1 - before) * rate


def is_before(step: Array, average_from: Scalar[Array]) -> Array:
    """1 while an average has not begun yet, else 0, without a branch.

    Args:
        step: t, a whole number from 0; or a floating scalar tensor.
        average_from: s, an integer >= 0; or a scalar tensor.

    Example:

    >>> [is_before(t, average_from=2) for t in range(4)]
    [1.0, 1.0, 0.0, 0.0]
    """
    left = _positive(average_from - step)
    return left - _positive(left - 1)


def _is_zero(value: object) -> bool:
    """Whether it is the number 0; of a tensor it is not known."""
    return isinstance(value, int) and value == 0


def _positive(value: Array) -> Array:
    """max(value, 0), of a number or a scalar tensor."""
    return (value + abs(value)) / 2


def first_cut(
    step: Array,
    is_cut: Scalar[Array],
    begun: Array,
    average_from: Scalar[Array],
) -> tuple[Array, Array]:
    """When an average begins that begins with the first cut of a rate.

    Args:
        step: t, a whole number from 0; or a floating scalar tensor.
        is_cut: 1 if a rate was cut before this step, else 0.
        begun: 1 if the average has begun before, else 0.
        average_from: s; of no meaning if it has not.

    Returns:
        Whether it has begun now, 1 or 0, and s; until it has, the step after
        this one.

    Example:

    >>> first_cut(4, is_cut=0, begun=0, average_from=0)
    (0, 5)
    >>> first_cut(5, is_cut=1, begun=0, average_from=5)
    (1, 5)
    >>> first_cut(6, is_cut=1, begun=1, average_from=5)
    (1, 5)
    """
    not_begun = 1 - begun
    start = begun * average_from + not_begun * (step + 1 - is_cut)
    return begun + not_begun * is_cut, start


def check_average_from(value: object) -> None:
    """Refuses what does not say when an average begins.

    Raises:
        ValueError: it is no integer from 0 to 2**53, nor "first_cut".
    """
    is_count = type(value) is int and 0 <= value <= _LARGEST_COUNT
    if not is_count and value != FIRST_CUT:
        raise ValueError(
            "`average_from` must be an integer from 0 to 2**53, how many "
            "updates of the center come before its average begins, or "
            f'"{FIRST_CUT}": it begins when the learning rate is reduced. '
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
