"""What simulated runs tell, and how surely."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


class Estimate(NamedTuple):
    """A mean over independent runs."""

    mean: NDArray[np.float64]
    standard_error: NDArray[np.float64]  # same shape


def estimate(samples: ArrayLike, axis: int = 0) -> Estimate:
    """The mean over independent runs, with its standard error.

    Args:
        samples: one value, or an array of them, for each run.
        axis: that of the runs, at least two.

    Returns:
        `Estimate`, without that axis.

    Example:

    >>> mean, standard_error = estimate([1.0, 3.0, 1.0, 3.0])
    >>> print(mean, standard_error.round(4))
    2.0 0.5774
    """
    values = np.asarray(samples, dtype=np.float64)
    runs = values.shape[axis]
    return Estimate(
        np.mean(values, axis=axis),
        np.std(values, axis=axis, ddof=1) / np.sqrt(runs),
    )
