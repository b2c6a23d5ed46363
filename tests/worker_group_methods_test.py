"""Groups of processes, by every method: a group is one worker.

What one worker does with the mean gradient of two batches, a group of two does
with a batch each.
"""

import numpy as np
import pytest

from tests import conformance_cases
from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as elastic
from tests import worker_processes_test as separate
from tests.elastic_multi_worker_test import parameters
from tf_elastic.cluster.transport import addresses

cluster, worker = elastic.cluster, elastic.worker

MEMBERS, STEPS = 2, 7
ROWS = np.random.default_rng(5).normal(size=(STEPS, MEMBERS, job.N))
# One of each kind of message, beside those that differ in the inner step.
TRACED = ("EAMSGD", "MVADownpour", "AsyncMSGD", "DiLoCo(SGD)", "ADMM")


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """`group(servers)`: the same two processes, as workers of new servers."""
    pool = separate.Pool(tmp_path_factory.mktemp("group"))
    members = pool.living(MEMBERS)
    ports = addresses.free_ports(MEMBERS)

    def begin(servers, **kwargs):
        for index, process in enumerate(members):
            config = {
                "cluster": {
                    "worker": [f"127.0.0.1:{port}" for port in ports],
                    "ps": servers.centers,
                },
                "task": {"type": "worker", "index": index},
            }
            process.ask(
                "begin", config=config, workers_per_group=MEMBERS, **kwargs
            )
        answers(members)
        return members

    try:
        yield begin
    finally:
        for process in members:
            process.kill()


def answers(members):
    return [process.answer() for process in members]


def together(members, what, **arguments):
    for process in members:
        process.ask(what, **arguments)
    return answers(members)


@pytest.mark.filterwarnings("ignore::tf_elastic.theory.StabilityWarning")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", conformance_cases.params())
def test_a_group_is_one_worker_with_the_mean_gradient(
    cluster, worker, group, case
):
    """After each step, worker and center; to the bit among the members."""
    name = conformance_cases.name_of(case)
    method = case.make().method
    protocol = "blocking" if "blocking" in method.protocols else None
    eagerly = name not in TRACED
    alone, ours = cluster(), cluster()
    model = job.build(
        worker(alone, protocol=protocol), case.make, run_eagerly=eagerly
    )
    members = group(ours, protocol=protocol)
    together(members, "case", name=name, run_eagerly=eagerly)
    for rows in ROWS:
        model.train_on_batch(rows, np.zeros(MEMBERS))
        job.served(model.distribute_strategy)
        for process, row in zip(members, rows, strict=True):
            process.ask("node_step", rows=[row.tolist()])
        points = answers(members)
        assert points[0] == points[1]
        assert_same(np.array(points[0][0]), job.point(model))
        assert_same(parameters(ours), parameters(alone))
    assert np.abs(job.point(model) - job.INITIAL).max() > 1e-3
    together(members, "end")


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


SETTINGS = [
    {"run_eagerly": True},
    {},
    pytest.param({"steps_per_execution": 2}, marks=pytest.mark.full),
]


@pytest.mark.parametrize("kwargs", SETTINGS)
@pytest.mark.parametrize("shorter", [0, 1])
def test_a_group_ends_with_the_first_of_its_members(
    cluster, group, shorter, kwargs
):
    """One's data end earlier; in the next `fit` a callback stops it."""
    servers = cluster()
    members = group(servers, protocol="blocking")
    together(members, "case", name="EAMSGD", **kwargs)
    rows = ROWS.swapaxes(0, 1).tolist()
    for length, stop_at, expected in ((4, 0, 8), (7, 6, 6)):
        for k, process in enumerate(members):
            is_short = k == shorter
            process.ask(
                "fit_epochs",
                rows=rows[k][: length if is_short else 7],
                epochs=2,
                stop_at=stop_at if is_short else 0,
            )
        ends = answers(members)
        assert [end["steps"] for end in ends] == [expected] * MEMBERS
        assert ends[0]["point"] == ends[1]["point"]
        assert ends[1 - shorter]["stopped"] == "HasEnded"
    # What the two have brought at their end is no more than they had.
    assert servers.shards[0].registry.members[0].clock == 8 + 6
    told = [
        "has ended its training" in process.log.read_text()
        for process in members
    ]
    assert told[1 - shorter]
    together(members, "end")
