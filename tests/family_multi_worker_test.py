"""Methods that push, under `ElasticMultiWorkerStrategy` and stock `fit`.

The worker is in this process; those of `worker_processes_test.py` have
processes of their own.
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

_RATE = {"learning_rate": job.LEARNING_RATE}
_MOMENTUM = {**_RATE, "momentum": job.MOMENTUM}
# The reference, its arguments, and whether it has a period.
ASYNCHRONOUS = {
    "downpour": (pushes.downpour, _RATE, True),
    "adownpour": (pushes.downpour, {**_RATE, "averaging_rate": "polyak"}, True),
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
        pushes.center_momentum,
        {**_MOMENTUM, "nesterov": True},
        False,
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


FIT = [
    ("downpour", "overlapped"),
    ("diloco", "synchronous"),
    *(
        pytest.param(method, "blocking", marks=pytest.mark.full)
        for method in ("adownpour", "async_msgd_all", "admm")
    ),
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
    saved = tmp_path / "last.weights.h5"
    # An overlapped epoch may end before its last push is served: what a
    # callback saves may be older.
    saves = protocol != "overlapped"
    checkpoint = keras.callbacks.ModelCheckpoint(
        str(saved), save_weights_only=True
    )
    model.fit(
        job.NOISE[0][:steps],
        np.zeros(steps),
        batch_size=1,
        shuffle=False,
        verbose=0,
        callbacks=[checkpoint] if saves else [],
    )
    job.served(strategy)
    expected = expected_run(method, protocol, 2, [0] * steps, 1)
    answer = expected.get("shown", expected["center"])[-1]
    # Overlapped, what is under way at the end of `fit` is waited for.
    point = expected["center"][-1]
    if protocol != "overlapped":
        point = expected["workers"][-1, 0]
    assert_close(job.point(model), point)
    assert_close(parameters(servers), expected["center"][-1])
    assert_close(np.concatenate(model.get_weights()), answer)
    if saves:
        with strategy.scope():
            other = job.Quadratic()
            other.build((None, job.N))
        other.load_weights(saved)
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
    support.support.until(lambda: client.sessions[1].away_since is not None)
    for t in (1, 2):
        step(t)
    assert np.abs(parameters(servers) - x).max() > 1e-3
    servers.serve(1, servers.shards[1])
    support.support.until(lambda: client.sessions[1].away_since is None)
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
