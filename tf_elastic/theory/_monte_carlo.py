"""Statistics of independent runs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


class Estimate(NamedTuple):
    """A mean over independent runs, with its error."""

    mean: NDArray[np.float64]  # shape of a sample without the axis of runs
    standard_error: NDArray[np.float64]  # same shape


def estimate(samples: ArrayLike, axis: int = 0) -> Estimate:
    """The mean of independent runs and its standard error.

    Args:
        samples: one value for each run along `axis`, two runs at least.
        axis: the axis of the runs.

    Returns:
        `Estimate`, float64.

    Example:

    >>> mean, error = estimate([1.0, 3.0, 5.0, 7.0])
    >>> print(mean, round(float(error), 4))
    4.0 1.291
    """
    array = np.asarray(samples, np.float64)
    error = array.std(axis, ddof=1) / np.sqrt(array.shape[axis])
    return Estimate(array.mean(axis), error)
