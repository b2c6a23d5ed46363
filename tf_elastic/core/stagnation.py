"""When a loss has stopped to fall, and which cuts of a rate come then."""

import math
from collections.abc import Sequence
from typing import NamedTuple

# The thesis', section 4.2; how long it waited is not told.
DEFAULT_CUTS = (5.0, 2.0)
DEFAULT_PATIENCE = 5


class Stagnation(NamedTuple):
    """What is known of a loss since the learning rate was last cut."""

    best: float = math.inf  # the lowest mean of a window
    waited: int = 0  # windows since then, none of them lower

    def after(self, loss: float, min_delta: float) -> "Stagnation":
        """What is known after one more window.

        Args:
            loss: the mean of the window. NaN is not lower than any.
            min_delta: by how much it has to be lower than the lowest.

        Example:

        >>> known = Stagnation()
        >>> for loss in (3.0, 2.0, 1.95, 2.5):
        ...     known = known.after(loss, min_delta=0.1)
        >>> known
        Stagnation(best=2.0, waited=2)
        """
        if loss < self.best - min_delta:
            return Stagnation(best=loss)
        return self._replace(waited=self.waited + 1)


def cuts_within(ratio: float, cuts: Sequence[float]) -> int:
    """How many of the cuts a rate has had, by what is left of it.

    Args:
        ratio: the rate at the beginning over that of now.
        cuts: what the rate is divided by, one after another.

    Example:

    >>> [cuts_within(ratio, (5, 2)) for ratio in (1, 5, 10)]
    [0, 1, 2]
    """
    done, divisor = 0, 1.0
    for cut in cuts:
        divisor *= cut
        if ratio * (1 + 1e-4) < divisor:  # Rates are float32.
            break
        done += 1
    return done


def check_cuts(cuts: Sequence[float]) -> None:
    """Refuses what is no list of divisors.

    Raises:
        ValueError: there is none, or one is not a number above 1.
    """
    is_list = isinstance(cuts, Sequence) and not isinstance(cuts, str)
    if not (is_list and cuts and all(_is_divisor(cut) for cut in cuts)):
        raise ValueError(
            "`cuts` must be numbers above 1, what the learning rate is divided "
            f"by, one after another. Received: cuts={cuts!r:.80}."
        )


def _is_divisor(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 1 < value < math.inf
