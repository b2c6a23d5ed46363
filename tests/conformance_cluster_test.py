"""One table: every optimizer through every way of being used on a cluster.

This process is a worker of real center servers, over loopback; alone it is
deterministic. `conformance_cases.py` has the optimizers and the uses.
"""

import contextlib
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tests import conformance_cases as cases
from tests import conformance_support as support
from tests.conformance_cases import shows
from tests.conformance_cluster_support import Cluster
from tests.conformance_cluster_support import Run
from tests.conformance_cluster_support import assert_same
from tests.conformance_cluster_support import name_of
from tests.conformance_cluster_support import protocol_of
from tests.conformance_support import TRAIN
from tests.conformance_support import X
from tests.conformance_support import Y
from tests.conformance_support import assert_same_state
from tests.conformance_support import compiled
from tests.conformance_support import fit
from tests.conformance_support import state
from tf_elastic import compat

HALF = 4  # of the 8 steps: in the middle of a period


@pytest.fixture(scope="module", params=cases.params())
def case(request):
    """Every optimizer in turn; what is made for one goes with it."""
    return request.param


@pytest.fixture(scope="module")
def begun(case):
    """`begun(...)`: a model of servers of its own, still untrained."""
    with contextlib.ExitStack() as end:

        def begin(network=support.normalized_network, servers=None, **kwargs):
            if servers is None:
                servers = Cluster()
                end.callback(servers.close)
            strategy = servers.strategy(protocol_of(case))
            return Run(
                compiled(case, network, strategy=strategy, **kwargs), servers
            )

        yield begin


class Statistics(keras.callbacks.Callback):
    """The worker's and the center's moving means after each step.

    Also what is seen of the center when it is validated.
    """

    def __init__(self, run):
        super().__init__()
        self.run = run
        self.noted = []
        self.validated = []

    def on_test_begin(self, logs=None):
        seen = self.run.seen()
        self.validated = [seen[name_of(v)] for v in self.model.weights]

    def on_train_batch_end(self, batch, logs=None):
        mean = self.model.layers[1].moving_mean
        [worker] = compat.native_variable(mean).worker_values()
        self.noted.append((worker, self.run.held()[name_of(mean)]))


class Plain(NamedTuple):
    """One epoch in graphs."""

    run: Run
    initial: list  # the model's weights before
    state: tuple
    reported: float  # by `validation_data`, before the last exchange
    validated: list  # the weights then
    statistics: list  # of `Statistics`


@pytest.fixture(scope="module")
def plain(begun):
    run = begun()
    initial = run.model.get_weights()
    statistics = Statistics(run)
    history = fit(
        run.model, validation_data=TRAIN, callbacks=[statistics]
    ).history.history
    statistics.on_train_batch_end(None)  # What the end of `fit` has done.
    return Plain(
        run,
        initial,
        run.state(),
        history["val_loss"][-1],
        statistics.validated,
        statistics.noted,
    )


def loss_at(model, weights):
    """A model's loss with these weights, without a strategy."""
    network = support.normalized_network()
    network.set_weights(weights)
    return float(model.loss(Y, network(X, training=False)))


@shows("graph")
def test_graph_trains_the_center(plain):
    model = plain.run.model
    loss = model.evaluate(TRAIN, verbose=0)
    assert plain.reported == pytest.approx(
        loss_at(model, plain.validated), rel=1e-4
    )
    seen = plain.run.seen()
    weights = [seen[name_of(variable)] for variable in model.weights]
    assert loss == pytest.approx(loss_at(model, weights), rel=1e-4)
    # Where it began, with the statistics that it has come to.
    before = [
        old if variable.trainable else new
        for variable, old, new in zip(
            model.weights, plain.initial, weights, strict=True
        )
    ]
    assert loss < 0.99 * loss_at(model, before)


@pytest.fixture(scope="module")
def deterministic():
    """Runs give the same bits."""
    tf.config.experimental.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


@pytest.fixture(scope="module")
def eager(begun, deterministic):
    """The state after one epoch in eager code."""
    run = begun(run_eagerly=True)
    fit(run.model)
    return run.state()


@shows("eager")
def test_eager_is_the_same(plain, eager):
    assert_same(eager, plain.state, exactly=False)


@shows("statistics")
def test_center_statistics_follow_the_worker(plain):
    """With each exchange they go towards the worker's, all alike."""
    moves = 0
    center = np.zeros(8, np.float32)  # where Keras begins
    for worker, now in plain.statistics:
        if np.array_equal(now, center):
            continue
        way = worker - center
        share = np.dot(now - center, way) / np.dot(way, way)
        assert 0 < share < 1 + 1e-5
        np.testing.assert_allclose(now, center + share * way, atol=1e-6)
        center, moves = now, moves + 1
    assert moves >= 2
    # It is what is shown, and what is saved.
    mean = plain.run.model.layers[1].moving_mean
    seen = plain.run.seen()[name_of(mean)]
    np.testing.assert_array_equal(mean.numpy(), seen)
    np.testing.assert_array_equal(mean.numpy(), center)


@shows("steps_per_execution", "xla")
def test_steps_per_execution_and_xla_are_the_same(case, begun, plain):
    """3 does not divide the 8 steps; the period is 3 or 1."""
    found = in_executions(begun, jit_compile=cases.shows_xla_too(case))
    assert_same(found, plain.state, exactly=False)


@shows("xla", of=lambda case: cases.is_left_out(case, "xla"))
def test_xla_is_the_same(begun, plain):
    found = in_executions(begun, jit_compile=True)
    assert_same(found, plain.state, exactly=False)


def in_executions(begun, **options):
    """The state after executions of several steps."""
    run = begun(options=options, steps_per_execution=3)
    fit(run.model)
    return run.state()


class Interrupted(NamedTuple):
    """A worker whose servers were ended and started again half-way."""

    run: Run
    checkpoint: str  # of the worker, half-way
    halfway: list  # its state then
    end: tuple


@pytest.fixture(scope="module")
def interrupted(begun, deterministic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    run = begun(run_eagerly=True)
    model = run.model
    found = []

    def interrupt(batch, logs):
        if batch == HALF - 1:
            checkpoint = tf.train.Checkpoint(
                model=model, optimizer=model.optimizer
            )
            found.append(checkpoint.save(str(folder / "checkpoint")))
            found.append(state(model))
            run.servers.restart(
                folder, model.distribute_strategy.extended.client.sessions
            )

    fit(
        model,
        callbacks=[
            keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
        ],
    )
    return Interrupted(run, *found, run.state())


@shows("snapshot")
def test_a_center_goes_on_from_its_snapshot_to_the_bit(interrupted, eager):
    counts = interrupted.run.model.distribute_strategy.exchange_counts()
    assert (counts.missed, counts.lost_halves, counts.forgotten) == (0, 0, 0)
    assert_same(interrupted.end, eager)


def restored(begun, checkpoint, servers=None):
    """A worker in a new process, from a checkpoint, when it has joined."""
    run = begun(servers=servers, seed=3, run_eagerly=True)
    model = run.model
    model.optimizer.build(model.trainable_variables)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).restore(
        checkpoint
    ).assert_existing_objects_matched()
    slots = slots_of(model)
    model.distribute_strategy.extended.before_step()
    return run, slots


def slots_of(model):
    """The worker's values of the optimizer's variables, by their paths."""
    return {
        variable.path: compat.native_variable(variable).worker_values()[0]
        for variable in model.optimizer.variables
    }


# What a worker that begins at the center cannot go on with.
AT_ZERO = ("velocity", "multiplier")
AT_THE_POINT = ("read", "anchor", "pushed")


@shows("resumed")
def test_a_resumed_worker_begins_at_the_center(case, begun, interrupted):
    """The center has gone on and gives the point; slots come back."""
    servers = interrupted.run.servers
    interrupted.run.model.distribute_strategy.leave()
    before = servers.kept()
    run, restored_slots = restored(begun, interrupted.checkpoint, servers)
    assert_same_state(servers.kept(), before)

    held = run.held()
    # These begin at the look-ahead point.
    ahead = {"MDownpour": 0.8, "HeLoCo(SGD)": 0.7 * 0.9}
    if (share := ahead.get(cases.name_of(case))) is not None:
        velocity = run.held("velocity")
        held = {k: v + share * velocity[k] for k, v in held.items()}
    model, own = run.model, run.model.optimizer.name
    slots = slots_of(model)
    for variable, [point] in zip(
        model.trainable_variables,
        model.optimizer.worker_points(),
        strict=True,
    ):
        np.testing.assert_allclose(
            point, held[name_of(variable)], rtol=1e-6, atol=1e-7
        )
        path = f"{own}/{variable.path.replace('/', '_')}"
        for kind in AT_ZERO:
            assert not np.any(slots.pop(f"{path}_{kind}", 0))
        for kind in AT_THE_POINT:
            np.testing.assert_array_equal(
                slots.pop(f"{path}_{kind}", point), point
            )
    # The center knows how far it had come.
    clock = servers.shards[0].registry.members[0].clock
    assert int(model.optimizer.iterations) == clock > HALF
    for path, value in slots.items():
        if path.endswith("/iteration"):
            continue
        np.testing.assert_array_equal(value, restored_slots[path], path)

    fit(model, data=TRAIN.take(3))
    after = servers.kept()
    assert all(np.isfinite(array).all() for array in after)
    assert any(np.any(a != b) for a, b in zip(after, before, strict=True))


@shows("resumed")
def test_a_checkpoint_begins_a_new_center(begun, interrupted):
    """Where there is none yet: all of the worker comes back."""
    run, _ = restored(begun, interrupted.checkpoint)
    half = len(interrupted.halfway) // 2  # Then come the workers' values.
    assert_same_state(state(run.model)[half:], interrupted.halfway[half:])
    held = run.held()
    for variable, [point] in zip(
        run.model.trainable_variables,
        run.model.optimizer.worker_points(),
        strict=True,
    ):
        np.testing.assert_array_equal(held[name_of(variable)], point)


@pytest.fixture
def policy():
    """`policy(name)` sets Keras' dtype policy for one test."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@shows("mixed_bfloat16", "mixed_float16")
@pytest.mark.parametrize("use", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(begun, plain, policy, use):
    """Eight steps lead to about where they do in full precision."""
    policy(use)
    scaled = use == "mixed_float16"
    run = begun(run_eagerly=not scaled)
    model = fit(run.model)
    assert scaled == isinstance(
        model.optimizer, keras.optimizers.LossScaleOptimizer
    )
    assert {a.dtype for a in run.servers.kept()} == {np.dtype("float32")}
    for mine, full, start in zip(
        model.get_weights(),
        plain.run.model.get_weights(),
        plain.initial,
        strict=True,
    ):
        np.testing.assert_allclose(mine, full, atol=0.01)
        assert np.abs(mine - start).max() > 0


@shows("sparse")
def test_sparse_gradients_equal_dense_ones(case, begun):
    sparse = begun(support.lookup_network)
    dense = begun(support.product_network, run_eagerly=True)
    dense.model.set_weights(sparse.model.get_weights())
    for run in (sparse, dense):
        support.fit_words(case, run.model, 1)
    support.assert_same_workers(sparse.model, dense.model)
    assert_same_state(sparse.servers.kept(), dense.servers.kept(), False)


def test_every_use_of_the_table_is_shown():
    shown = cases.SHOWN[__name__]
    assert set(shown) == set(cases.CLUSTER_USES)
    assert set(shown.values()) <= set(globals())
