"""Where a setting can converge at all, whatever is being trained.

`exchanges` has the bounds of each order of the exchange, `delays` what late
gradients and overlapped exchanges leave of them.
"""

from tf_elastic.theory.stability.delays import warn_if_late
from tf_elastic.theory.stability.delays import warn_if_overlap_swings
from tf_elastic.theory.stability.exchanges import ORDERS
from tf_elastic.theory.stability.exchanges import StabilityWarning
from tf_elastic.theory.stability.exchanges import exchange_map
from tf_elastic.theory.stability.exchanges import spectral_radius
from tf_elastic.theory.stability.exchanges import stable_moving_rates
from tf_elastic.theory.stability.exchanges import warn_if_unstable

__all__ = [
    "ORDERS",
    "StabilityWarning",
    "exchange_map",
    "spectral_radius",
    "stable_moving_rates",
    "warn_if_late",
    "warn_if_overlap_swings",
    "warn_if_unstable",
]
