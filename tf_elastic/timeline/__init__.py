"""What has happened in a cluster, as one stream of events.

Who exchanged what when, at which versions of the center, who came, went and
waited. A live cluster tells it (`--events=PATH`); counters, reports, tables and
plots are made from it. No TensorFlow here.
"""

from tf_elastic.timeline.event import Event
from tf_elastic.timeline.event_file import EventFile
from tf_elastic.timeline.event_file import read
from tf_elastic.timeline.status import Status
from tf_elastic.timeline.stream import Stream
from tf_elastic.timeline.tally import Tally

__all__ = ["Event", "EventFile", "Status", "Stream", "Tally", "read"]
