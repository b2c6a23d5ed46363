"""EASGD Tree on a quadratic, which thesis, section 6.1, leaves open.

How fast its root converges, how much it fluctuates, and the map and the runs
of all nodes.
"""

from tf_elastic.theory.tree.chains import Spectrum
from tf_elastic.theory.tree.chains import Tree
from tf_elastic.theory.tree.chains import chain_step_maps
from tf_elastic.theory.tree.chains import effective_leaves
from tf_elastic.theory.tree.chains import multi_scale_tree
from tf_elastic.theory.tree.chains import over_a_period
from tf_elastic.theory.tree.chains import spectrum
from tf_elastic.theory.tree.chains import up_down_tree
from tf_elastic.theory.tree.moments import RootMoments
from tf_elastic.theory.tree.moments import root_moments
from tf_elastic.theory.tree.moments import root_variance
from tf_elastic.theory.tree.simulation import full_step_maps
from tf_elastic.theory.tree.simulation import simulate

__all__ = [
    "RootMoments",
    "Spectrum",
    "Tree",
    "chain_step_maps",
    "effective_leaves",
    "full_step_maps",
    "multi_scale_tree",
    "over_a_period",
    "root_moments",
    "root_variance",
    "simulate",
    "spectrum",
    "up_down_tree",
]
