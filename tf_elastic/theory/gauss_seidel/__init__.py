"""EASGD whose center moves after the workers: thesis, section 6.2.

Its maps, and those of DOWNPOUR, where they are stable, and runs of it.
"""

from tf_elastic.theory.gauss_seidel.maps import Interval
from tf_elastic.theory.gauss_seidel.maps import downpour_learning_rate_limit
from tf_elastic.theory.gauss_seidel.maps import downpour_map_matrix
from tf_elastic.theory.gauss_seidel.maps import full_map_matrix
from tf_elastic.theory.gauss_seidel.maps import is_stable
from tf_elastic.theory.gauss_seidel.maps import map_matrix
from tf_elastic.theory.gauss_seidel.maps import roots_are_inside
from tf_elastic.theory.gauss_seidel.maps import stable_moving_rates
from tf_elastic.theory.gauss_seidel.simulation import Moments
from tf_elastic.theory.gauss_seidel.simulation import Paths
from tf_elastic.theory.gauss_seidel.simulation import moments
from tf_elastic.theory.gauss_seidel.simulation import simulate
from tf_elastic.theory.gauss_seidel.simulation import stationary_covariance

__all__ = [
    "Interval",
    "Moments",
    "Paths",
    "downpour_learning_rate_limit",
    "downpour_map_matrix",
    "full_map_matrix",
    "is_stable",
    "map_matrix",
    "moments",
    "roots_are_inside",
    "simulate",
    "stable_moving_rates",
    "stationary_covariance",
]
