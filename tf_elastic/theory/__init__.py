"""The papers' analysis: which settings are stable, and how stable."""

from tf_elastic.theory.stability import EXCHANGES
from tf_elastic.theory.stability import StabilityWarning
from tf_elastic.theory.stability import exchange_map
from tf_elastic.theory.stability import spectral_radius
from tf_elastic.theory.stability import stable_moving_rates
from tf_elastic.theory.stability import warn_if_unstable

__all__ = [
    "EXCHANGES",
    "StabilityWarning",
    "exchange_map",
    "spectral_radius",
    "stable_moving_rates",
    "warn_if_unstable",
]
