"""Methods that push, under `ElasticMultiWorkerStrategy`, in real processes.

A process takes a step when it is told to, so that the order of service is
fixed; the center servers are in this process.
"""

import keras
import numpy as np
import pytest

from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as support
from tests.elastic_multi_worker_test import assert_close
from tests.elastic_multi_worker_test import parameters
from tests.reference import pushes

cluster = support.cluster
worker = support.worker

P, TURNS = 2, 16
SCHEDULE = [
    int(i) % P for i in np.random.default_rng(5).permutation(TURNS * P)
]

_RATE = {"learning_rate": job.LEARNING_RATE}
_MOMENTUM = {**_RATE, "momentum": job.MOMENTUM}
# The reference, its arguments, and whether it has a period.
ASYNCHRONOUS = {
    "downpour": (pushes.downpour, _RATE, True),
    "adownpour": (
        pushes.downpour, {**_RATE, "averaging_rate": "polyak"}, True
    ),
    "mvadownpour": (
        pushes.downpour,
        {**_RATE, "averaging_rate": job.AVERAGING_RATE},
        True,
    ),
    "async_msgd": (pushes.center_momentum, _MOMENTUM, False),
    "async_msgd_all": (
        pushes.center_momentum,
        {**_MOMENTUM, "power": 0.5, "scaled": True, "compensation": 0.3},
        False,
    ),
    "mdownpour": (
        pushes.center_momentum, {**_MOMENTUM, "nesterov": True}, False
    ),
    "admm": (pushes.admm, {**_RATE, "elasticity": job.ELASTICITY}, True),
}
MEETINGS = {
    "downpour": {"adds": True},
    "local_sgd": {},
    "diloco": {"outer": job.OUTER},
}


def expected_run(method, protocol, tau, schedule, p):
    if protocol == "synchronous":
        return pushes.meetings(
            job.gradient,
            job.INITIAL,
            num_workers=p,
            communication_period=tau,
            num_steps=len(schedule) // p,
            **_RATE,
            **MEETINGS[method],
        )
    run, settings, has_period = ASYNCHRONOUS[method]
    if has_period:
        settings = {**settings, "communication_period": tau}
    if protocol == "overlapped":
        settings = {**settings, "overlapped": True}
    return run(
        job.gradient, job.INITIAL, schedule=schedule, num_workers=p, **settings
    )


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    made = []
    try:
        # The last one is there to take a killed one's place.
        for i in range(P + 1):
            made.append(support.Process(folder / f"{i}.log"))
        for process in made:
            assert process.answer() == "ready"
        yield made
    finally:
        for process in made:
            process.kill()


EXACT = [
    ("downpour", "blocking", 3),
    ("downpour", "overlapped", 3),
    ("mvadownpour", "blocking", 2),
    ("async_msgd", "blocking", 1),
    ("async_msgd_all", "overlapped", 1),
    ("mdownpour", "blocking", 1),
    ("admm", "blocking", 2),
    ("local_sgd", "synchronous", 3),
    ("diloco", "synchronous", 3),
]


@pytest.mark.parametrize(("method", "protocol", "tau"), EXACT)
def test_processes_equal_the_pseudo_code(
    cluster, processes, method, protocol, tau
):
    """Step by step, served in a fixed order (synchronous: all at once)."""
    servers = cluster(2)
    workers = processes[:P]
    support.begin(processes, servers, P, protocol=protocol)
    for process in workers:
        process.do("quadratic", method=method, tau=tau)
    expected = expected_run(method, protocol, tau, SCHEDULE, P)
    if protocol == "synchronous":
        for row in range(1, TURNS + 1):
            for process in workers:
                process.ask("step", then_center=False)
            points = [process.answer()[0] for process in workers]
            assert_close(np.array(points), expected["workers"][row])
            assert_close(parameters(servers), expected["center"][row])
    else:
        shown = expected.get("shown", expected["center"])
        for row, i in enumerate(SCHEDULE, start=1):
            point, looked_at = workers[i].do("step")
            assert_close(np.array(point), expected["workers"][row, i])
            assert_close(parameters(servers), expected["center"][row])
            assert_close(np.array(looked_at), shown[row])
    # What is saved and evaluated, by whichever worker.
    answer = expected.get("shown", expected["center"])[-1]
    for process in workers:
        weights, loss = process.do("shown")
        assert_close(np.array(weights), answer)
        assert_close(loss, answer @ job.HESSIAN @ answer / 2)
    for process in workers:
        process.do("end")


def test_another_process_goes_on_for_a_killed_one(cluster, processes):
    """The center keeps its velocity, the successor begins where it says."""
    servers = cluster(2)
    support.begin(processes, servers, P, protocol="blocking")
    first, victim, successor = processes
    for process in (first, victim):
        process.do("quadratic", method="mdownpour", tau=1)
    for process in (first, victim, first, victim, victim):
        process.do("step")
    velocity = np.concatenate(
        [shard.slots["velocity"][0] for shard in servers.shards]
    )
    center = parameters(servers)
    victim.kill()
    support.begin_one(successor, servers, P, 1, protocol="blocking")
    successor.do("quadratic", method="mdownpour", tau=1)
    np.testing.assert_array_equal(parameters(servers), center)
    point, _ = successor.do("step")
    begun_at = center + job.MOMENTUM * velocity
    velocity = job.MOMENTUM * velocity - (
        job.LEARNING_RATE * job.gradient(1, 0, begun_at)
    )
    assert_close(parameters(servers), center + velocity)
    assert_close(
        np.array(point), center + velocity + job.MOMENTUM * velocity
    )
    first.do("step")
    assert servers.shards[0].ledger.members[1].incarnation == 2
    assert [s.version for s in servers.shards] == [7, 7]
    for process in (first, successor):
        process.do("end")


# One worker in this process, under stock `fit`.

FIT = [
    ("downpour", "overlapped"),
    ("adownpour", "blocking"),
    ("async_msgd_all", "blocking"),
    ("diloco", "synchronous"),
    ("admm", "blocking"),
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("method", "protocol"), FIT)
def test_fit_with_several_steps_per_execution_ends_the_same(
    cluster, worker, tmp_path, method, protocol
):
    """5 is no multiple of the period; what is saved is the answer."""
    servers = cluster(2)
    strategy = worker(servers, protocol=protocol)
    model = job.build(
        strategy, job.optimizer_of(method, 2), steps_per_execution=5
    )
    steps = 20
    model.fit(
        job.NOISE[0][:steps],
        np.zeros(steps),
        batch_size=1,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                str(tmp_path / "last.weights.h5"), save_weights_only=True
            )
        ],
    )
    job.served(strategy)
    expected = expected_run(method, protocol, 2, [0] * steps, 1)
    answer = expected.get("shown", expected["center"])[-1]
    assert_close(job.point(model), expected["workers"][-1, 0])
    assert_close(parameters(servers), expected["center"][-1])
    assert_close(np.concatenate(model.get_weights()), answer)
    if protocol != "overlapped":  # There the last push may be later.
        with strategy.scope():
            other = job.Quadratic()
            other.build((None, job.N))
        other.load_weights(tmp_path / "last.weights.h5")
        assert_close(np.concatenate(other.get_weights()), answer)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
def test_a_model_goes_on_while_a_server_is_away(cluster, worker, protocol):
    """What is not pushed then is pushed later: nothing is lost."""
    servers = cluster(2)
    strategy = worker(servers, protocol=protocol)
    model = job.build(
        strategy, job.optimizer_of("downpour", 1), run_eagerly=True
    )
    client = strategy.extended.client
    x = job.point(model)

    def step(t):
        nonlocal x
        x = x - job.LEARNING_RATE * job.gradient(0, t, x)
        model.train_on_batch(job.NOISE[0][t][None], np.zeros(1))
        job.served(strategy)
        assert_close(job.point(model), x)

    step(0)
    servers.servers[1].stop(0.0)
    support.support.until(lambda: client.links[1].away_since is not None)
    for t in (1, 2):
        step(t)
    assert np.abs(parameters(servers) - x).max() > 1e-3
    servers.serve(1, servers.shards[1])
    support.support.until(lambda: client.links[1].away_since is None)
    step(3)
    assert_close(parameters(servers), x)
    assert strategy.exchange_counts().missed == 2
    assert [shard.applied for shard in servers.shards] == [4, 2]


@pytest.mark.usefixtures("float64")
def test_a_gradient_that_is_not_a_number_ends_training(cluster, worker):
    servers = cluster()
    model = job.build(
        worker(servers), job.optimizer_of("async_msgd", 1), run_eagerly=True
    )
    before = parameters(servers)
    with pytest.raises(Exception, match="worker 0 sent nan in '.*head"):
        model.train_on_batch(np.full((1, job.N), np.nan), np.zeros(1))
    np.testing.assert_array_equal(parameters(servers), before)
