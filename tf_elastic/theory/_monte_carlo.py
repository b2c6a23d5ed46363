"""What a simulator's runs say about a moment."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


class Estimate(NamedTuple):
    """A mean over independent runs, with its standard error."""

    mean: NDArray[np.float64]  # the runs' axis is gone
    standard_error: NDArray[np.float64]  # same shape


def estimate(samples: ArrayLike, axis: int = 0) -> Estimate:
    """The mean over independent runs and its standard error.

    Args:
        samples: a value for each run, at least two runs. For a second moment
            give the squares.
        axis: along which the runs are.

    Returns:
        `Estimate`.

    Example:

    >>> mean, error = estimate([1.0, 3.0, 1.0, 3.0, 2.0])
    >>> print(f"{mean} +- {error:.3f}")
    2.0 +- 0.447
    """
    samples = np.asarray(samples, dtype=np.float64)
    runs = samples.shape[axis]
    return Estimate(
        np.mean(samples, axis=axis),
        np.std(samples, axis=axis, ddof=1) / np.sqrt(runs),
    )
