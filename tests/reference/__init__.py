"""The papers' pseudo-code in float64 NumPy, written from the papers alone.

Nothing here imports or copies `tf_elastic`: the package is tested against these
functions, so they must be able to disagree with it. They are slow, literal
loops, one function for each method, to be read beside the equations of

    S. Zhang, "Distributed stochastic optimization for deep learning",
    PhD thesis, New York University, 2016 ("the thesis").

Every function takes the same things by the same names, as far as its method
has them:

* `gradient(worker, step, point)`: the gradient that worker `worker` (from 0)
  computes at `point`, shape (n,), when its own clock reads `step` (from 0).
* `initial`: shape (n,), where the center and every worker start.
* `num_workers`: p.
* `communication_period`: tau; a worker exchanges when tau divides its clock.
* `learning_rate`: eta, a number or a function of the worker's own clock.
* `moving_rate`: alpha, the elastic rate of a worker.
* `beta`: the elastic rate of the center; `None` means p * alpha.
* `momentum`: delta; the velocities start at zero.
* `num_steps`: how many steps of the clock to run.
* `schedule`: which worker takes each turn, where they do not run in lockstep.

and returns a dictionary of trajectories, row t being the state before step t
(so row 0 is the start and row `num_steps` the end):

* `"workers"`: shape (num_steps + 1, p, n).
* `"center"`: shape (num_steps + 1, n).
* `"velocity"`: shape (num_steps + 1, p, n), where the method has one.
* `"gradient_points"`: shape (num_steps, p, n), the points at which the
  gradients of step t were taken; NaN for a worker that took none.
"""

from tests.reference.admm import admm
from tests.reference.async_diloco import async_diloco
from tests.reference.asynchronous import eamsgd_asynchronous
from tests.reference.asynchronous import easgd_asynchronous
from tests.reference.asynchronous import easgd_overlapped
from tests.reference.averages import averaged_sgd
from tests.reference.averages import moving_average_sgd
from tests.reference.averages import square_root_decay
from tests.reference.center_momentum import async_msgd
from tests.reference.center_momentum import mdownpour
from tests.reference.device_tree import device_tree
from tests.reference.downpour import downpour
from tests.reference.first_gradients import ringmaster
from tests.reference.first_gradients import sync_sgd
from tests.reference.gauss_seidel import downpour_synchronous
from tests.reference.gauss_seidel import eamsgd_gauss_seidel
from tests.reference.gauss_seidel import easgd_gauss_seidel
from tests.reference.gauss_seidel import heavy_ball_gauss_seidel
from tests.reference.heloco import heloco
from tests.reference.model_averaging import diloco
from tests.reference.model_averaging import local_sgd
from tests.reference.round_robin import eamsgd_round_robin
from tests.reference.round_robin import easgd_round_robin
from tests.reference.round_robin import round_robin_3_55
from tests.reference.synchronous import eamsgd_synchronous
from tests.reference.synchronous import easgd_synchronous
from tests.reference.synchronous import heavy_ball_synchronous
from tests.reference.tree import easgd_tree

__all__ = [
    "admm",
    "averaged_sgd",
    "async_diloco",
    "async_msgd",
    "device_tree",
    "diloco",
    "downpour",
    "downpour_synchronous",
    "eamsgd_asynchronous",
    "eamsgd_gauss_seidel",
    "eamsgd_round_robin",
    "eamsgd_synchronous",
    "easgd_asynchronous",
    "easgd_gauss_seidel",
    "easgd_overlapped",
    "easgd_round_robin",
    "easgd_synchronous",
    "easgd_tree",
    "heloco",
    "heavy_ball_gauss_seidel",
    "heavy_ball_synchronous",
    "local_sgd",
    "mdownpour",
    "moving_average_sgd",
    "ringmaster",
    "round_robin_3_55",
    "square_root_decay",
    "sync_sgd",
]
