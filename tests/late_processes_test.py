"""A real worker process that is stopped, or whose first step takes long.

The loss has no noise, so the center's falls at every exchange of a worker that
is on time; where a late one's counted it would rise.
"""

import signal
import textwrap

import numpy as np
import pytest

from tests import cluster_support as support
from tests.cluster_support import until
from tests.process_support import Processes

WORKER = """
    import json
    import sys
    import time

    import numpy as np

    from tf_elastic import core
    from tf_elastic.cluster.worker import client
    from tf_elastic.cluster import layout
    from tf_elastic.cluster.worker.exchanger import Exchanger, Moment
    from tf_elastic.cluster.worker.exchanger import PULL, RESTART

    center, index, description, max_lag, first_s = sys.argv[1:]
    made = layout.Layout.from_description(json.loads(description))
    joined = client.CenterClient(
        [center], int(index), index == "0", 2, max_lag=json.loads(max_lag)
    )
    x = joined.join(made, [np.full(s.size, 8.0) for s in made.sections])
    exchanger = Exchanger(
        joined,
        "overlapped",
        lambda p, clock, numbers: core.elastic_rates(p, beta=0.6)._asdict(),
    )
    x = [array.copy() for array in exchanger.begin(Moment(0, 0)).arrays]
    print("begins", flush=True)
    for clock in range(1, 10**9):
        time.sleep(float(first_s) if clock == 1 else 0.002)
        x[0] = x[0] - 0.02 * x[0]
        order = exchanger.collect(Moment(clock, clock))
        if order.kind == PULL:
            x[0] = core.pull(x[0], order.arrays[0], order.moving_rate)
        elif order.kind == RESTART:
            x = [array.copy() for array in order.arrays]
        exchanger.send(Moment(clock, clock), [array.copy() for array in x])
        if joined.counts.late:
            print("late", flush=True)
            joined.counts.late = 0
"""


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path)
    yield made
    made.close()


def largest_rise(shard, is_over):
    """By how much the center's loss rises at most, until something is so."""
    seen = []

    def look():
        seen.append(float(np.max(shard.arrays[0])))
        return is_over()

    until(look)
    return max(np.diff(seen), default=0.0)


CASES = [
    ("stopped", 1.5),
    ("first step", 1.5),
    pytest.param("stopped", 60, marks=pytest.mark.full),
    pytest.param("first step", 15, marks=pytest.mark.full),
]


@pytest.mark.parametrize(("case", "seconds"), CASES)
@pytest.mark.parametrize("max_lag", [10.0, None])
def test_the_centers_loss_does_not_rise_by_its_arrival(
    processes, case, seconds, max_lag
):
    """Without a bound it does: so the test can see it."""
    center = support.Cluster(1)
    shard = center.shards[0]
    try:

        def worker(index, first_s=0.0):
            return processes.python(
                "-c",
                textwrap.dedent(WORKER),
                center.centers[0],
                str(index),
                str(center.layout.describe()).replace("'", '"'),
                "null" if max_lag is None else str(max_lag),
                str(first_s),
                name=f"worker{index}",
            )

        worker(0, 0.5)
        until(lambda: shard.arrays is not None)
        # It begins when the loss is as high as it ever is.
        late = worker(1, seconds + 2 if case == "first step" else 0.0)
        until(lambda: "begins" in processes.log("worker1"))
        until(lambda: len(shard.registry.present) == 2 and shard.version > 1)
        if case == "stopped":
            until(lambda: shard.registry.members[1].pushes >= 1)
            late.send_signal(signal.SIGSTOP)
            pushes = shard.registry.members[1].pushes
        else:
            pushes = 0
        # The other one alone brings the center down, as long as it is away.
        version = shard.version
        until(lambda: shard.version > version + 100 * seconds)
        until(lambda: float(np.max(shard.arrays[0])) < 1e-2)
        if case == "stopped":
            late.send_signal(signal.SIGCONT)
        rise = largest_rise(
            shard, lambda: shard.registry.members[1].pushes >= pushes + 3
        )
        if max_lag is None:
            assert rise > 1e-3
        else:
            assert rise <= 1e-12
            assert "late" in processes.log("worker1")
    finally:
        center.close()
