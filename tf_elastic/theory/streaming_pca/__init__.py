r"""Momentum against asynchrony: streaming PCA with stale gradients.

The smallest problem that is not convex and has saddle points, strict ones:

.. math:: \max_v v^\top E[X X^\top] v \quad\text{subject to}\quad v^\top v = 1

and Async-MSGD for it, whose gradients are :math:`\tau_k` steps old. What is
here, by idea:

- `simulate`, the method itself, all runs of many settings at once;
- `ode_path`, `deviation_moments` and `stationary_variance`, its limits as the
  learning rate goes to 0;
- `escape_time`, `traverse_time` and `settle_time`: the three phases, T1 to T3,
  and `effective_iterations`, N1 to N3;
- `admissible_delay`, `critical_delay` and `optimal_delay`: which delays do no
  harm, by the paper's bound, by the mean's stability, and by simulation.

Reference:
    Liu, Li, Shi, Zhou, Zhao (2018), "Towards Understanding Acceleration
    Tradeoff between Momentum and Asynchrony in Distributed Nonconvex
    Stochastic Optimization".
"""

from tf_elastic.theory.streaming_pca.delays import admissible_delay
from tf_elastic.theory.streaming_pca.delays import critical_delay
from tf_elastic.theory.streaming_pca.delays import optimal_delay
from tf_elastic.theory.streaming_pca.delays import squared_error
from tf_elastic.theory.streaming_pca.delays import traversing_delay
from tf_elastic.theory.streaming_pca.limits import Moments
from tf_elastic.theory.streaming_pca.limits import deviation_moments
from tf_elastic.theory.streaming_pca.limits import ode_path
from tf_elastic.theory.streaming_pca.limits import stationary_variance
from tf_elastic.theory.streaming_pca.phases import Phases
from tf_elastic.theory.streaming_pca.phases import effective_iterations
from tf_elastic.theory.streaming_pca.phases import escape_time
from tf_elastic.theory.streaming_pca.phases import phase_times
from tf_elastic.theory.streaming_pca.phases import settle_time
from tf_elastic.theory.streaming_pca.phases import traverse_time
from tf_elastic.theory.streaming_pca.problem import INPUTS
from tf_elastic.theory.streaming_pca.problem import Eigenbasis
from tf_elastic.theory.streaming_pca.problem import eigenbasis
from tf_elastic.theory.streaming_pca.problem import fourth_moments
from tf_elastic.theory.streaming_pca.simulation import DelaySampler
from tf_elastic.theory.streaming_pca.simulation import Paths
from tf_elastic.theory.streaming_pca.simulation import geometric_delay
from tf_elastic.theory.streaming_pca.simulation import simulate

__all__ = [
    "INPUTS",
    "DelaySampler",
    "Eigenbasis",
    "Moments",
    "Paths",
    "Phases",
    "admissible_delay",
    "critical_delay",
    "deviation_moments",
    "effective_iterations",
    "eigenbasis",
    "escape_time",
    "fourth_moments",
    "geometric_delay",
    "ode_path",
    "optimal_delay",
    "phase_times",
    "settle_time",
    "simulate",
    "squared_error",
    "stationary_variance",
    "traverse_time",
    "traversing_delay",
]
