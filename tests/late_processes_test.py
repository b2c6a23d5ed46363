"""A real worker process that is stopped, or whose first step takes long.

The loss has no noise, so the center's falls at every exchange of a worker that
is on time; where a late one's counted it would rise.
"""

import pathlib
import signal
import textwrap

import numpy as np
import pytest

from tests import cluster_support as support
from tests.cluster_support import until
from tests.process_support import Processes

WORKER = """
    import json
    import os
    import signal
    import sys
    import time

    import numpy as np

    from tf_elastic import core
    from tf_elastic.cluster.worker import client
    from tf_elastic.cluster import layout
    from tf_elastic.cluster.worker.exchanger import Exchanger, Moment
    from tf_elastic.cluster.worker.moved import PULL, RESTART

    center, index, description, max_lag, go, stops = sys.argv[1:]
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
        time.sleep(0.002)
        # The first step takes until a file is there.
        while clock == 1 and not os.path.exists(go):
            time.sleep(0.002)
        x[0] = x[0] - 0.02 * x[0]
        order = exchanger.collect(Moment(clock, clock))
        if order.kind == PULL:
            x[0] = core.pull(x[0], order.arrays[0], order.moving_rate)
        elif order.kind == RESTART:
            x = [array.copy() for array in order.arrays]
        if clock == 3 and stops == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
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


def is_stopped(process):
    """Whether a process has been stopped by a signal."""
    status = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"


# For how many exchanges of the other one it is away.
CASES = [
    ("stopped", 150),
    ("first step", 150),
    pytest.param("stopped", 6000, marks=pytest.mark.full),
    pytest.param("first step", 1500, marks=pytest.mark.full),
]


@pytest.mark.parametrize(("case", "exchanges"), CASES)
@pytest.mark.parametrize("max_lag", [10.0, None])
def test_the_centers_loss_does_not_rise_by_its_arrival(
    processes, tmp_path, case, exchanges, max_lag
):
    """Without a bound it does: so the test can see it."""
    center = support.Cluster(1, lease_s=600.0)  # It keeps its slot.
    shard = center.shards[0]
    go = [tmp_path / f"go{i}" for i in range(2)]
    try:

        def worker(index, stops="goes on"):
            return processes.python(
                "-c",
                textwrap.dedent(WORKER),
                center.centers[0],
                str(index),
                str(center.layout.describe()).replace("'", '"'),
                "null" if max_lag is None else str(max_lag),
                str(go[index]),
                stops,
                name=f"worker{index}",
            )

        worker(0)
        until(lambda: shard.arrays is not None)
        # It begins when the loss is as high as it ever is.
        late = worker(1, "stops" if case == "stopped" else "goes on")
        until(lambda: "begins" in processes.log("worker1"))
        if case == "stopped":
            go[1].touch()
            until(lambda: is_stopped(late))
        pushes = shard.registry.members[1].pushes
        assert pushes == (2 if case == "stopped" else 0)
        # The other one alone brings the center down, as long as it is away.
        version = shard.version
        go[0].touch()
        until(lambda: shard.version > version + exchanges)
        until(lambda: float(np.max(shard.arrays[0])) < 1e-2)
        if case == "stopped":
            late.send_signal(signal.SIGCONT)
        else:
            go[1].touch()
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
