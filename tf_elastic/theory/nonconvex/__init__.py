"""Workers that settle in different wells: thesis, section 5.3.

The critical points of the objective, which of them are minima, and runs that
end in them.
"""

from tf_elastic.theory.nonconvex.descent import Descent
from tf_elastic.theory.nonconvex.descent import descend
from tf_elastic.theory.nonconvex.splits import CriticalPoint
from tf_elastic.theory.nonconvex.splits import critical_elasticity
from tf_elastic.theory.nonconvex.splits import critical_points
from tf_elastic.theory.nonconvex.splits import hessian
from tf_elastic.theory.nonconvex.splits import objective
from tf_elastic.theory.nonconvex.splits import smallest_eigenvalue
from tf_elastic.theory.nonconvex.splits import stable_splits
from tf_elastic.theory.nonconvex.splits import well_gradient

__all__ = [
    "CriticalPoint",
    "Descent",
    "critical_elasticity",
    "critical_points",
    "descend",
    "hessian",
    "objective",
    "smallest_eigenvalue",
    "stable_splits",
    "well_gradient",
]
