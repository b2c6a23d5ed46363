r"""Multiplicative noise: how fast training begins, and with how many workers.

The theory of section 5.2 of the thesis. The model is linear regression with
one parameter, in which the curvature that a gradient sees is drawn from a
Gamma distribution (`shape` :math:`\lambda`, `rate` :math:`\omega`); see
`inputs`. What converges, or does not, are second moments.
"""

from tf_elastic.theory.multiplicative.inputs import BrownianRates
from tf_elastic.theory.multiplicative.inputs import brownian_rates
from tf_elastic.theory.multiplicative.inputs import input_density
from tf_elastic.theory.multiplicative.inputs import minibatch_rate
from tf_elastic.theory.multiplicative.inputs import optimal_learning_rate
from tf_elastic.theory.multiplicative.limits import limit_eigenvalues
from tf_elastic.theory.multiplicative.limits import limit_learning_rates
from tf_elastic.theory.multiplicative.limits import widest_moving_rate
from tf_elastic.theory.multiplicative.moments import eamsgd_moment_matrix
from tf_elastic.theory.multiplicative.moments import easgd_moment_matrix
from tf_elastic.theory.multiplicative.moments import msgd_moment_matrix
from tf_elastic.theory.multiplicative.radii import elastic_radius
from tf_elastic.theory.multiplicative.radii import msgd_radius
from tf_elastic.theory.multiplicative.simulation import second_moments
from tf_elastic.theory.multiplicative.simulation import simulate
from tf_elastic.theory.multiplicative.workers import BestWorkers
from tf_elastic.theory.multiplicative.workers import optimal_num_workers

__all__ = [
    "BestWorkers",
    "BrownianRates",
    "brownian_rates",
    "eamsgd_moment_matrix",
    "easgd_moment_matrix",
    "elastic_radius",
    "input_density",
    "limit_eigenvalues",
    "limit_learning_rates",
    "minibatch_rate",
    "msgd_moment_matrix",
    "msgd_radius",
    "optimal_learning_rate",
    "optimal_num_workers",
    "second_moments",
    "simulate",
    "widest_moving_rate",
]
