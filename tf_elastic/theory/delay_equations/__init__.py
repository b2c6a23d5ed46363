r"""ASGD as a stochastic differential delay equation.

.. math::
    x_{k+1} &= x_k - \eta u_k g_{M_k}(b, x_{k-l_k}) \\
    dX(t) &= -\frac{\eta}{\delta} U(t) \nabla F(X(t - \theta(t))) dt
        + \frac{\eta}{\sqrt \delta} U(t) \sigma(X(t - \theta(t))) dB(t)

All of the paper's analysis under one name, by what it answers:

- Is the mean stable, and how fast? `rightmost_root`, `critical_delay`,
  `is_stable`; for steps that are not small `delayed_sgd_radius`,
  `largest_stable_eta_h`, `fastest_eta_h`.
- Where does the error go, and how large is it there? `linear_moments`,
  `stationary_variance`, `delayed_sgd_variance`; the bounds of the paper are
  `moment_bound` and `energy_bound`.
- What does a run look like? `asgd_paths`, `euler_maruyama`, `sdde_paths`.
- How good is the approximation? `approximation_error`, `compare_paths`.

Reference:
    He, Meng, Chen, Ma and Liu (2018): Differential Equations for Modeling
    Asynchronous Algorithms.
"""

from tf_elastic.theory.delay_equations.bounds import decay_constant
from tf_elastic.theory.delay_equations.bounds import energy_bound
from tf_elastic.theory.delay_equations.bounds import moment_bound
from tf_elastic.theory.delay_equations.comparison import ApproximationError
from tf_elastic.theory.delay_equations.comparison import PathComparison
from tf_elastic.theory.delay_equations.comparison import approximation_error
from tf_elastic.theory.delay_equations.comparison import compare_paths
from tf_elastic.theory.delay_equations.moments import DelayMoments
from tf_elastic.theory.delay_equations.moments import linear_moments
from tf_elastic.theory.delay_equations.moments import stationary_variance
from tf_elastic.theory.delay_equations.regression import LeastSquares
from tf_elastic.theory.delay_equations.regression import least_squares
from tf_elastic.theory.delay_equations.regression import two_parabolas
from tf_elastic.theory.delay_equations.roots import critical_delay
from tf_elastic.theory.delay_equations.roots import is_stable
from tf_elastic.theory.delay_equations.roots import rightmost_root
from tf_elastic.theory.delay_equations.roots import rightmost_root_numeric
from tf_elastic.theory.delay_equations.schedules import SCHEDULES
from tf_elastic.theory.delay_equations.schedules import random_delays
from tf_elastic.theory.delay_equations.schedules import rate_adjustment
from tf_elastic.theory.delay_equations.schedules import warm_up_delays
from tf_elastic.theory.delay_equations.simulation import asgd_paths
from tf_elastic.theory.delay_equations.simulation import euler_maruyama
from tf_elastic.theory.delay_equations.simulation import sdde_paths
from tf_elastic.theory.delay_equations.solution import fundamental_solution
from tf_elastic.theory.delay_equations.steps import delayed_sgd_matrix
from tf_elastic.theory.delay_equations.steps import delayed_sgd_radius
from tf_elastic.theory.delay_equations.steps import delayed_sgd_variance
from tf_elastic.theory.delay_equations.steps import fastest_eta_h
from tf_elastic.theory.delay_equations.steps import largest_stable_eta_h

__all__ = [
    "SCHEDULES",
    "ApproximationError",
    "DelayMoments",
    "LeastSquares",
    "PathComparison",
    "approximation_error",
    "asgd_paths",
    "compare_paths",
    "critical_delay",
    "decay_constant",
    "delayed_sgd_matrix",
    "delayed_sgd_radius",
    "delayed_sgd_variance",
    "energy_bound",
    "euler_maruyama",
    "fastest_eta_h",
    "fundamental_solution",
    "is_stable",
    "largest_stable_eta_h",
    "least_squares",
    "linear_moments",
    "moment_bound",
    "random_delays",
    "rate_adjustment",
    "rightmost_root",
    "rightmost_root_numeric",
    "sdde_paths",
    "stationary_variance",
    "two_parabolas",
    "warm_up_delays",
]
