"""Clusters that are not there: what would happen in one, and when.

When things happen does not depend on what is learned: a `VirtualTimeline` says
it, by a `Timing`, before anything is trained; step by step, if there is a
`Policy` that looks at values.
"""

from tf_elastic.timeline.virtual.calibrate import calibrate
from tf_elastic.timeline.virtual.durations import Constant
from tf_elastic.timeline.virtual.durations import Duration
from tf_elastic.timeline.virtual.durations import Exponential
from tf_elastic.timeline.virtual.durations import LogNormal
from tf_elastic.timeline.virtual.durations import Normal
from tf_elastic.timeline.virtual.durations import Pareto
from tf_elastic.timeline.virtual.durations import Trace
from tf_elastic.timeline.virtual.engine import VirtualTimeline
from tf_elastic.timeline.virtual.faults import Losses
from tf_elastic.timeline.virtual.faults import Pauses
from tf_elastic.timeline.virtual.faults import Stragglers
from tf_elastic.timeline.virtual.in_order import InOrder
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.policies import Policy
from tf_elastic.timeline.virtual.policies import Seen
from tf_elastic.timeline.virtual.policies import SkipSmallMoves
from tf_elastic.timeline.virtual.presets import PRESETS
from tf_elastic.timeline.virtual.presets import preset
from tf_elastic.timeline.virtual.quadratic import root_on_quadratic
from tf_elastic.timeline.virtual.recorded import RecordedTimeline
from tf_elastic.timeline.virtual.telling import Teller
from tf_elastic.timeline.virtual.telling import events_of
from tf_elastic.timeline.virtual.timing import Timing
from tf_elastic.timeline.virtual.totals import Totals
from tf_elastic.timeline.virtual.tree_engine import TreeTimeline
from tf_elastic.timeline.virtual.tree_telling import TreeTeller
from tf_elastic.timeline.virtual.tree_totals import TreeTotals
from tf_elastic.timeline.virtual.workload import Workload

__all__ = [
    "PRESETS",
    "Constant",
    "Duration",
    "Exponential",
    "InOrder",
    "LogNormal",
    "Losses",
    "Move",
    "Normal",
    "Pareto",
    "Pauses",
    "Policy",
    "RecordedTimeline",
    "Seen",
    "SkipSmallMoves",
    "Stragglers",
    "Teller",
    "Timing",
    "Totals",
    "Trace",
    "TreeTeller",
    "TreeTimeline",
    "TreeTotals",
    "VirtualTimeline",
    "Workload",
    "calibrate",
    "events_of",
    "preset",
    "root_on_quadratic",
]
