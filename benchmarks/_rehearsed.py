"""What a timing makes of so many steps, with nothing trained."""

from tf_elastic.core import rules
from tf_elastic.timeline.virtual import VirtualTimeline
from tf_elastic.timeline.virtual import Workload
from tf_elastic.timeline.virtual import events_of
from tf_elastic.timeline.virtual import moves


def events(timing, protocol, period, workers, steps):
    """The events of elastic averaging, until all have taken `steps` each."""
    load = Workload(rules.Elastic(), protocol, period)
    load = load._replace(phase=0 if load.is_before else period - 1)
    timeline = VirtualTimeline(timing, load, workers)
    made, left = [], workers * steps
    for move in timeline.moves():
        made.append(move)
        left -= move.kind in moves.STEPS
        if not left:
            break
    return list(events_of(timeline, made))
