r"""EASGD on a quadratic: the center's error, when it is stable, its average.

Each of p workers sees the gradient :math:`g^i(x) = A x - b - \xi^i` with
independent noise :math:`\xi^i` of zero mean and covariance :math:`\Sigma`
(eq. 3.1). In one dimension A is the curvature h, and :math:`\Sigma` is
:math:`\sigma^2`. Workers and center move at once (eqs. 2.3 and 2.4):

.. math::
    x^i_{t+1} &= x^i_t - \eta g^i(x^i_t) - \alpha (x^i_t - \tilde x_t) \\
    \tilde x_{t+1} &= \tilde x_t + \beta (y_t - \tilde x_t), \quad
        y_t = \frac1p \sum_i x^i_t

All errors are relative to the optimum :math:`x^* = A^{-1} b`. The center
depends on the workers by their mean y alone, so that the pair (y, center) has
a linear map of its own; its two eigenvalues decide everything.

The elastic symmetry :math:`\beta = p \alpha` is the default, and any other
pair of rates that are not negative may be given.

Reference:
    Zhang (2016), section 3.1.
"""

from tf_elastic.theory.quadratic.average import AverageMoments
from tf_elastic.theory.quadratic.average import double_average
from tf_elastic.theory.quadratic.average import double_average_covariance
from tf_elastic.theory.quadratic.average import double_average_moments
from tf_elastic.theory.quadratic.moments import Moments
from tf_elastic.theory.quadratic.moments import center_moments
from tf_elastic.theory.quadratic.moments import many_workers_limit
from tf_elastic.theory.quadratic.simulation import Simulation
from tf_elastic.theory.quadratic.simulation import simulate
from tf_elastic.theory.quadratic.spectrum import Eigenvalues
from tf_elastic.theory.quadratic.spectrum import drift_matrix
from tf_elastic.theory.quadratic.spectrum import eigenvalues
from tf_elastic.theory.quadratic.spectrum import is_stable

__all__ = [
    "AverageMoments",
    "Eigenvalues",
    "Moments",
    "Simulation",
    "center_moments",
    "double_average",
    "double_average_covariance",
    "double_average_moments",
    "drift_matrix",
    "eigenvalues",
    "is_stable",
    "many_workers_limit",
    "simulate",
]
