"""The virtual cluster's engine alone: how many events and steps a second.

    python benchmarks/bench_timeline.py [--repeats=7] [--events=200000]
        [--steps=1000000] [--json=PATH]

Nothing is trained: these are the moves of p workers with exponential steps, as
training takes them, one after another. In seconds of the process, so that
others on the machine count less; the median, and the range.

*visits*: every step exchanges, at once. *overlapped*: every step exchanges,
and the message is on its way while the worker goes on. *queue*: every step
exchanges, and the center serves one after another, at a tenth of what it can.
*rounds*: all meet after every step. *tau = 10*: ten steps for each exchange.

Trees, of degree 4 (p = 16) or 16: *up_down*, with the periods 1 and 10, and
*multi_scale*, 10 and 100, where nothing but steps takes time; *slow*, the
former with latencies, and links of all nodes that serve one message after
another. For these the rows that are needed for points under way, too.

*merged*: an exchange at a time with tau = 10: how many local steps a second,
and how long so many take, with the start of the engine.
"""

import collections
import itertools
import statistics
import time

import _report

from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.timeline.virtual import Exponential
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import TreeTimeline
from tf_elastic.timeline.virtual import VirtualTimeline
from tf_elastic.timeline.virtual import Workload

WORKERS = (16, 256, 4096)
PERIOD = 10
DEGREES = {16: (4, 2), 256: (16, 2), 4096: (16, 3)}  # and depth
ELASTIC, ADD = rules.Elastic(), rules.Add()
STEP = Exponential(1.0)


def timelines(p):
    """{name: a timeline of p workers}."""
    at_once, slow = Timing(STEP), Timing(STEP, latency=0.1)
    queue = Timing(STEP, latency=0.1, service=0.1 / p)
    return {
        name: VirtualTimeline(timing, workload, p)
        for name, timing, workload in (
            ("visits", at_once, Workload(ELASTIC, "blocking")),
            ("overlapped", slow, Workload(ELASTIC, "overlapped")),
            ("queue", queue, Workload(ADD, "blocking")),
            ("rounds", slow, Workload(ELASTIC, "synchronous")),
            ("tau = 10", at_once, Workload(ELASTIC, "blocking", PERIOD)),
        )
    }


def trees(p):
    """The same of trees."""
    links = {"bandwidth": 1e5, "node_bandwidth": 1e5, "center_bandwidth": 1e5}
    slow = Timing(STEP, latency=0.1, **links)
    often, seldom = topology.up_down(1, 10), topology.multi_scale(10, 100)
    load = Workload(ELASTIC, "blocking", bytes_up=1000, bytes_down=1000)
    return {
        name: TreeTimeline(timing, load, topology.tree(*DEGREES[p], scheme))
        for name, timing, scheme in (
            ("up_down", Timing(STEP), often),
            ("multi_scale", Timing(STEP), seldom),
            ("slow", slow, often),
        )
    }


def rows_of(timeline, events):
    """How many rows the points under way need."""
    return 1 + max(m.row for m in itertools.islice(timeline.moves(), events))


def goes_on(timeline, p, events):
    """A function that returns the events a second of the next ones."""
    moves = timeline.moves()
    collections.deque(itertools.islice(moves, 10 * p), 0)

    def rate():
        begin = time.process_time()
        collections.deque(itertools.islice(moves, events), 0)
        return events / (time.process_time() - begin)

    return rate


def merged(p, steps):
    """A function that returns the seconds of so many local steps."""
    workload = Workload(ELASTIC, "blocking", PERIOD)
    timeline = VirtualTimeline(Timing(STEP), workload, p, merged=True)
    exchanges = max(steps // PERIOD, 1)

    def seconds():
        begin = time.process_time()
        collections.deque(itertools.islice(timeline.moves(), exchanges), 0)
        return time.process_time() - begin

    return seconds


def told(values, form):
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to " + (
        f"{max(values):{form}})"
    )


def main():
    args = _report.parse_args(
        __doc__, repeats=7, events=200_000, steps=1_000_000
    )
    rates, seconds, rows = {}, {}, {}
    for p in WORKERS:
        functions = {
            name: goes_on(timeline, p, args.events)
            for name, timeline in (timelines(p) | trees(p)).items()
        }
        rows[p] = {
            name: rows_of(timeline, args.events)
            for name, timeline in trees(p).items()
        }
        rates[p] = _report.in_turns(functions, args.repeats)
        seconds[p] = _report.in_turns(
            {"merged": merged(p, args.steps)}, args.repeats
        )["merged"]
        for name, found in rates[p].items():
            needs = f"; {rows[p][name]} rows" if name in rows[p] else ""
            print(
                f"p = {p:4}, {name:11} {told(found, ',.0f')} events a second"
                f"{needs}"
            )
        found = [args.steps / s for s in seconds[p]]
        print(
            f"p = {p:4}, merged      {told(found, ',.0f')} steps a second; "
            f"{args.steps:,} take {told(seconds[p], '.2f')} s"
        )
    _report.write(
        args,
        {
            "events_a_second": rates,
            "rows": rows,
            "merged_seconds": seconds,
            "steps": args.steps,
        },
    )


if __name__ == "__main__":
    main()
