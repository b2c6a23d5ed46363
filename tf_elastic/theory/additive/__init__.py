"""SGD, MSGD, EASGD and EAMSGD under additive noise (thesis, section 5.1).

Drift and moment matrices, their spectra, where they are stable, the rates at
which they converge fastest, what they tend to, and a simulator of them all.
"""

from tf_elastic.theory.additive.eamsgd import Characteristic
from tf_elastic.theory.additive.eamsgd import eamsgd_characteristic
from tf_elastic.theory.additive.eamsgd import eamsgd_drift_matrix
from tf_elastic.theory.additive.eamsgd import eamsgd_is_stable
from tf_elastic.theory.additive.easgd import easgd_drift_eigenvalues
from tf_elastic.theory.additive.easgd import easgd_drift_matrix
from tf_elastic.theory.additive.easgd import easgd_full_moment_matrix
from tf_elastic.theory.additive.easgd import easgd_is_stable
from tf_elastic.theory.additive.easgd import easgd_moment_eigenvalues
from tf_elastic.theory.additive.easgd import easgd_moment_matrix
from tf_elastic.theory.additive.moments import moments_at
from tf_elastic.theory.additive.moments import stationary_covariance
from tf_elastic.theory.additive.momentum import Moments
from tf_elastic.theory.additive.momentum import MomentumMoments
from tf_elastic.theory.additive.momentum import msgd_asymptotic_moments
from tf_elastic.theory.additive.momentum import msgd_eigenvalues
from tf_elastic.theory.additive.momentum import msgd_is_stable
from tf_elastic.theory.additive.momentum import msgd_moment_matrix
from tf_elastic.theory.additive.momentum import nesterov_delta_h
from tf_elastic.theory.additive.momentum import optimal_momentum
from tf_elastic.theory.additive.momentum import sgd_moments
from tf_elastic.theory.additive.optimal import optimal_moving_rate
from tf_elastic.theory.additive.optimal import reduced_optimal_moving_rate
from tf_elastic.theory.additive.simulation import Runs
from tf_elastic.theory.additive.simulation import simulate
from tf_elastic.theory.additive.variance import ElasticMoments
from tf_elastic.theory.additive.variance import eamsgd_asymptotic_moments
from tf_elastic.theory.additive.variance import easgd_asymptotic_moments

__all__ = [
    "Characteristic",
    "ElasticMoments",
    "Moments",
    "MomentumMoments",
    "Runs",
    "eamsgd_asymptotic_moments",
    "eamsgd_characteristic",
    "eamsgd_drift_matrix",
    "eamsgd_is_stable",
    "easgd_asymptotic_moments",
    "easgd_drift_eigenvalues",
    "easgd_drift_matrix",
    "easgd_full_moment_matrix",
    "easgd_is_stable",
    "easgd_moment_eigenvalues",
    "easgd_moment_matrix",
    "moments_at",
    "msgd_asymptotic_moments",
    "msgd_eigenvalues",
    "msgd_is_stable",
    "msgd_moment_matrix",
    "nesterov_delta_h",
    "optimal_momentum",
    "optimal_moving_rate",
    "reduced_optimal_moving_rate",
    "sgd_moments",
    "simulate",
    "stationary_covariance",
]
