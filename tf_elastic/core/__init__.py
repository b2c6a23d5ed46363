"""The update rules of the papers, each written once.

Pure functions of arrays: they use nothing but ``+``, ``-``, ``*`` and ``**``,
so the same function takes NumPy arrays and TensorFlow tensors of any floating
dtype. Nothing here holds a variable, reads a clock or does I/O; the
optimizers, the strategies and the tests all call these functions.
"""

from tf_elastic.core import admm
from tf_elastic.core import one_way
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.core.averages import FIRST_CUT
from tf_elastic.core.averages import averaging_rate
from tf_elastic.core.averages import check_average_from
from tf_elastic.core.averages import first_cut
from tf_elastic.core.averages import is_before
from tf_elastic.core.averages import polyak_rate
from tf_elastic.core.averages import time_average
from tf_elastic.core.elastic import conserved_sum
from tf_elastic.core.elastic import elastic_difference
from tf_elastic.core.elastic import pull
from tf_elastic.core.elastic import push
from tf_elastic.core.elastic_exchanges import gauss_seidel_exchange
from tf_elastic.core.elastic_exchanges import jacobi_exchange
from tf_elastic.core.elastic_exchanges import round_robin_exchange
from tf_elastic.core.local_steps import MomentumState
from tf_elastic.core.local_steps import lookahead_momentum_step
from tf_elastic.core.local_steps import lookahead_point
from tf_elastic.core.local_steps import momentum_step
from tf_elastic.core.local_steps import plain_point
from tf_elastic.core.local_steps import sgd_step
from tf_elastic.core.rates import DEFAULT_BETA
from tf_elastic.core.rates import ElasticRates
from tf_elastic.core.rates import check_moving_rate
from tf_elastic.core.rates import check_rate
from tf_elastic.core.rates import elastic_rates
from tf_elastic.core.schedules import inverse_sqrt_decay

__all__ = [
    "DEFAULT_BETA",
    "ElasticRates",
    "FIRST_CUT",
    "MomentumState",
    "admm",
    "averaging_rate",
    "check_average_from",
    "check_moving_rate",
    "check_rate",
    "conserved_sum",
    "elastic_difference",
    "elastic_rates",
    "first_cut",
    "gauss_seidel_exchange",
    "inverse_sqrt_decay",
    "is_before",
    "jacobi_exchange",
    "lookahead_momentum_step",
    "lookahead_point",
    "momentum_step",
    "one_way",
    "orders",
    "plain_point",
    "polyak_rate",
    "pull",
    "push",
    "round_robin_exchange",
    "rules",
    "sgd_step",
    "time_average",
]
