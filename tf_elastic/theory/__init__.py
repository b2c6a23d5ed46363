"""The papers' analysis: what is stable, how fast, and how many workers help.

A subject is a module or a package here, and its functions are called through
it: `theory.additive.optimal_momentum(...)`; see docs/theory.md. `advise` uses
them to judge a setting. What concerns every subject is here itself.
"""

from tf_elastic.theory import additive
from tf_elastic.theory import curvature
from tf_elastic.theory import delay_equations
from tf_elastic.theory import gauss_seidel
from tf_elastic.theory import multiplicative
from tf_elastic.theory import nonconvex
from tf_elastic.theory import quadratic
from tf_elastic.theory import round_robin
from tf_elastic.theory import streaming_pca
from tf_elastic.theory import strongly_convex
from tf_elastic.theory import tree
from tf_elastic.theory._spectra import spectral_radii
from tf_elastic.theory.advise import RULES
from tf_elastic.theory.advise import Advice
from tf_elastic.theory.advise import advise
from tf_elastic.theory.stability import ORDERS
from tf_elastic.theory.stability import StabilityWarning
from tf_elastic.theory.stability import exchange_map
from tf_elastic.theory.stability import spectral_radius
from tf_elastic.theory.stability import stable_moving_rates
from tf_elastic.theory.stability import warn_if_late
from tf_elastic.theory.stability import warn_if_overlap_swings
from tf_elastic.theory.stability import warn_if_unstable

__all__ = [
    "ORDERS",
    "RULES",
    "Advice",
    "StabilityWarning",
    "additive",
    "advise",
    "curvature",
    "delay_equations",
    "exchange_map",
    "gauss_seidel",
    "multiplicative",
    "nonconvex",
    "quadratic",
    "round_robin",
    "spectral_radii",
    "spectral_radius",
    "stable_moving_rates",
    "streaming_pca",
    "strongly_convex",
    "tree",
    "warn_if_late",
    "warn_if_overlap_swings",
    "warn_if_unstable",
]
