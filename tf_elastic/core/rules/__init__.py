"""Rules: what a child and its parent do with each other in an exchange.

A child is a worker, a parent holds a center. A rule says what the child sends,
what its parent does with it, and what the child does with the answer. It is
pure, frozen and made of JSON, and its arithmetic is elementwise (but for that
of one that is `by_variable`): the same rule moves NumPy arrays on a center
server and tensors on a device.
"""

from tf_elastic.core.rules.aligned import Aligned
from tf_elastic.core.rules.averaged import IS_CUT
from tf_elastic.core.rules.averaged import TimeAverage
from tf_elastic.core.rules.base import GRADIENT
from tf_elastic.core.rules.base import INCREMENT
from tf_elastic.core.rules.base import POINT
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import from_config
from tf_elastic.core.rules.base import increment
from tf_elastic.core.rules.base import rule
from tf_elastic.core.rules.delayed import DelayedNesterov
from tf_elastic.core.rules.elastic import Elastic
from tf_elastic.core.rules.elastic import Follow
from tf_elastic.core.rules.gradients import HeavyBall
from tf_elastic.core.rules.gradients import MeanGradient
from tf_elastic.core.rules.gradients import Nesterov
from tf_elastic.core.rules.increments import Add
from tf_elastic.core.rules.increments import MeanOfParts
from tf_elastic.core.rules.master import for_dtype
from tf_elastic.core.rules.means import Mean
from tf_elastic.core.rules.means import OuterNesterov
from tf_elastic.core.rules.servers import GlobalServer
from tf_elastic.core.rules.servers import RegionalServer

__all__ = [
    "Add",
    "Aligned",
    "Context",
    "DelayedNesterov",
    "Elastic",
    "Follow",
    "GRADIENT",
    "GlobalServer",
    "HeavyBall",
    "INCREMENT",
    "IS_CUT",
    "Mean",
    "MeanGradient",
    "MeanOfParts",
    "Nesterov",
    "OuterNesterov",
    "POINT",
    "Rates",
    "RegionalServer",
    "Rule",
    "Slots",
    "TimeAverage",
    "for_dtype",
    "from_config",
    "increment",
    "rule",
]
