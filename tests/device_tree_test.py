"""`ElasticMultiWorkerStrategy(inside="elastic")`: devices under a center.

Two processes of two devices each, here in one, over real center servers.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as elastic
from tests import reference
from tests import worker_processes_test as separate
from tests.elastic_multi_worker_test import assert_close
from tests.elastic_multi_worker_test import parameters
from tf_elastic import optimizers

cluster, worker = elastic.cluster, elastic.worker

NODES, DEVICES, STEPS = 2, 2, 24
INNER, OUTER = 2, 6
_GENERATOR = np.random.default_rng(5)
NOISE = _GENERATOR.normal(size=(NODES * DEVICES, STEPS, job.N))
# Any order, fixed; each node has its turns.
SCHEDULE = [int(j) for j in _GENERATOR.permutation(np.arange(STEPS) % NODES)]


def gradient(i, step, point):
    return job.HESSIAN @ point - NOISE[i, step]


def devices_of(node):
    return [f"CPU:{node * DEVICES + i}" for i in range(DEVICES)]


def node_of(worker, servers, index, nodes=NODES, outer_period=OUTER, **kwargs):
    return worker(
        servers,
        index,
        workers=nodes,
        devices=devices_of(index),
        inside="elastic",
        outer_period=outer_period,
        **kwargs,
    )


def local_center(model):
    """The local center, flat, from both devices, which agree."""
    copies = [
        np.concatenate(
            [
                v.value.store.outside.read(i).numpy()
                for v in model.trainable_variables
            ]
        )
        for i in range(DEVICES)
    ]
    np.testing.assert_array_equal(*copies)
    return copies[0]


def points(model):
    """The points of the node's workers, shape (devices, n)."""
    return np.concatenate(model.optimizer.worker_points(), axis=1)


def expected_run(method, order, protocol):
    """What the reference does with the schedule of these tests."""
    return reference.device_tree(
        gradient,
        job.INITIAL,
        schedule=SCHEDULE,
        num_nodes=NODES,
        workers_per_node=DEVICES,
        inner_period=INNER,
        outer_period=OUTER,
        learning_rate=job.LEARNING_RATE,
        inner_rate=job.BETA / (DEVICES + 1),
        outer_rate=job.BETA / NODES,
        momentum=0.0 if method == "easgd" else job.MOMENTUM,
        gauss_seidel=order == "gauss_seidel",
        overlapped=protocol == "overlapped",
    )


@pytest.fixture
def processes(tmp_path):
    """A process for each node, not yet at work."""
    pool = separate.Pool(tmp_path)
    try:
        yield pool.living(NODES)
    finally:
        for process in pool.made:
            process.kill()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("method", "order", "protocol", "run_eagerly"),
    [
        ("nesterov", "jacobi", "blocking", False),
        ("nesterov", "gauss_seidel", "overlapped", False),
        ("easgd", "jacobi", "blocking", True),
        pytest.param(
            *("nesterov", "jacobi", "overlapped", True), marks=pytest.mark.full
        ),
        pytest.param(
            *("easgd", "gauss_seidel", "blocking", False),
            marks=pytest.mark.full,
        ),
    ],
)
def test_two_nodes_of_two_workers_are_the_tree(
    cluster, worker, method, order, protocol, run_eagerly
):
    """To rounding, after each step: workers, local centers, center."""
    servers = cluster(2)
    models = [
        job.build(
            node_of(worker, servers, j, protocol=protocol, order=order),
            job.optimizer_of(method, INNER),
            run_eagerly=run_eagerly,
        )
        for j in range(NODES)
    ]
    expected = expected_run(method, order, protocol)
    clocks = [0] * NODES
    for row, j in enumerate(SCHEDULE, 1):
        rows = NOISE[j * DEVICES : (j + 1) * DEVICES, clocks[j]]
        models[j].train_on_batch(rows, np.zeros(DEVICES))
        clocks[j] += 1
        job.served(models[j].distribute_strategy)
        assert_close(points(models[j]), expected["workers"][row, j])
        assert_close(local_center(models[j]), expected["local"][row, j])
        assert_close(parameters(servers), expected["center"][row])
    assert np.ptp(expected["center"], axis=0).max() > 0.1  # It has moved.


def test_processes_of_their_own_are_the_tree(cluster, processes):
    """As above, each node in a process, with Nesterov's momentum."""
    servers = cluster(2)
    for j, process in enumerate(processes):
        separate.begin_one(
            process,
            servers,
            NODES,
            j,
            protocol="blocking",
            devices=DEVICES,
            inside="elastic",
            outer_period=OUTER,
        )
        process.do("quadratic", method="nesterov", tau=INNER)
    expected = expected_run("nesterov", "jacobi", "blocking")
    clocks = [0] * NODES
    for row, j in enumerate(SCHEDULE, 1):
        rows = NOISE[j * DEVICES : (j + 1) * DEVICES, clocks[j]]
        found = processes[j].do("node_step", rows=rows.tolist())
        clocks[j] += 1
        assert_close(found, expected["workers"][row, j])
        assert_close(parameters(servers), expected["center"][row])


@pytest.mark.usefixtures("float64")
def test_what_is_shown_and_saved_is_the_cluster_s_center(cluster, worker):
    """Also after a `fit` that ends within both periods."""
    servers = cluster(2)
    strategy = node_of(worker, servers, 0, nodes=1)
    model = job.build(strategy, job.optimizer_of("nesterov", INNER))
    before = np.concatenate(model.get_weights())
    model.fit(
        np.concatenate(NOISE[:DEVICES, :STEPS].swapaxes(0, 1)[: OUTER + 1]),
        np.zeros(DEVICES * (OUTER + 1)),
        batch_size=DEVICES,
        shuffle=False,
        verbose=0,
    )
    shown = np.concatenate(model.get_weights())
    np.testing.assert_array_equal(shown, parameters(servers))
    assert np.abs(shown - before).max() > 0.01
    # One exchange at the outer period, one more at the end, inside too.
    assert servers.shards[0].version == 2
    assert int(strategy.extended.sessions[0].exchange.met_at) == OUTER + 1
    # The conserved sum: what the center lacks is not lost.
    assert np.abs(local_center(model) - shown).max() > 1e-6


@pytest.mark.usefixtures("float64")
def test_an_end_within_a_period_brings_the_local_center_first(cluster, worker):
    """Three steps: one exchange inside is due, the end has one of each."""
    servers = cluster()
    strategy = node_of(worker, servers, 0, nodes=1)
    model = job.build(strategy, job.optimizer_of("easgd", INNER))
    model.fit(
        np.concatenate(NOISE[:DEVICES, :3].swapaxes(0, 1)),
        np.zeros(DEVICES * 3),
        batch_size=DEVICES,
        shuffle=False,
        verbose=0,
    )
    run = reference.device_tree(
        gradient,
        job.INITIAL,
        schedule=[0] * 3,
        num_nodes=1,
        workers_per_node=DEVICES,
        inner_period=INNER,
        outer_period=OUTER,
        learning_rate=job.LEARNING_RATE,
        inner_rate=job.BETA / (DEVICES + 1),
        outer_rate=job.BETA,
    )
    x, c = run["workers"][-1, 0], run["local"][-1, 0]
    rate = job.BETA / (DEVICES + 1)
    c_after = c + rate * (x - c).sum(axis=0)
    assert_close(points(model), x - rate * (x - c))
    r = np.array(job.INITIAL)
    away = c_after - r
    assert_close(local_center(model), c_after - job.BETA * away)
    assert_close(parameters(servers), r + job.BETA * away)


def test_a_node_that_joins_late_begins_at_the_center_as_a_whole(
    cluster, worker
):
    """Its workers, its local center and its statistics."""
    servers = cluster(2)
    first = elastic.compiled(
        node_of(worker, servers, 0, outer_period=4), noisy=True
    )
    elastic.does_not_wait(first.distribute_strategy)
    elastic.fit(first)
    second = elastic.compiled(
        node_of(worker, servers, 1, outer_period=4), noisy=True
    )
    second.optimizer.build(second.trainable_variables)
    for variable in second.variables[:4]:
        variable.assign(variable + 1)
    second.distribute_strategy.extended.before_step()
    for variable in [*second.trainable_variables, *second.layers[1].variables]:
        native = variable.value
        for i in range(DEVICES):
            for held in (
                native.store.read(i),
                native.store.outside.read(i),
                native.store.center_at(i),
            ):
                np.testing.assert_array_equal(held.numpy(), native.numpy())
    np.testing.assert_allclose(
        np.concatenate([v.numpy().ravel() for v in second.trainable_variables]),
        np.concatenate(
            [v.ravel() for v in elastic.center_values(servers, first)]
        ),
    )


def test_stock_fit_trains_statistics_dropout_and_short_batches(cluster, worker):
    """The last batch has one row for two workers."""
    servers = cluster(2)
    strategy = node_of(worker, servers, 0, nodes=1, outer_period=4)
    model = elastic.compiled(strategy, noisy=True, metrics=["accuracy"])
    before = model.evaluate(elastic.X, elastic.Y, verbose=0)[0]
    rows = tf.data.Dataset.from_tensor_slices((elastic.X[:85], elastic.Y[:85]))
    options = tf.data.Options()
    options.autotune.enabled = False
    history = model.fit(
        rows.batch(12).with_options(options), epochs=8, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    after = model.evaluate(elastic.X, elastic.Y, verbose=0)[0]
    assert after < 0.9 * before
    moving_mean = model.layers[1].moving_mean.value.store
    means = [moving_mean.read(i).numpy() for i in range(DEVICES)]
    assert np.abs(means[0] - means[1]).max() > 1e-6  # Each has its own.
    assert len(model.optimizer.elastic_distances()) == DEVICES


def test_statistics_of_mirrored_and_elastic_processes_fit_each_other(
    cluster, worker
):
    """To the center they are the same model."""
    servers = cluster()
    one = elastic.fit(
        elastic.compiled(
            node_of(worker, servers, 0, outer_period=4), noisy=True
        )
    )
    elastic.does_not_wait(one.distribute_strategy)
    mirrored = worker(servers, 1, workers=2, devices=devices_of(1))
    other = elastic.fit(elastic.compiled(mirrored, noisy=True), epochs=1)
    assert np.isfinite(other.get_weights()[0]).all()
    assert len(servers.shards[0].status()["members"]) == 2


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"inside": "both"}, "inside='both'"),
        ({"order": "jacobi"}, "order='jacobi' with inside='mirrored'"),
        ({"outer_period": 4}, "outer_period=4 with inside='mirrored'"),
        ({"inside": "elastic", "order": "any"}, "order='any'"),
        ({"inside": "elastic", "outer_period": 0}, "outer_period=0"),
        ({"inside": "elastic", "outer_period": 2.0}, "outer_period=2.0"),
    ],
)
def test_bad_arguments_are_refused(worker, kwargs, said):
    with pytest.raises(ValueError, match=said):
        worker(**kwargs)


def test_an_outer_period_that_is_no_multiple_is_refused(cluster, worker):
    strategy = node_of(worker, cluster(), 0, outer_period=5)
    with pytest.raises(ValueError, match="Received: outer_period=5.*Take 6"):
        job.build(strategy, job.optimizer_of("easgd", 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.Downpour(0.1, communication_period=2),
        lambda: optimizers.ADMM(0.1, communication_period=2),
        lambda: optimizers.AsyncMSGD(0.1),
        lambda: optimizers.LocalSGD(
            keras.optimizers.SGD(0.1), communication_period=2
        ),
    ],
)
def test_a_rule_that_does_not_work_both_ways_is_refused(cluster, worker, make):
    strategy = node_of(worker, cluster(), 0, protocol=None)
    with pytest.raises(ValueError, match="works both ways.*elastic averaging"):
        job.build(strategy, make)
