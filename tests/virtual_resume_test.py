"""A virtual cluster goes on to the bit, with messages under way."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tests import conformance_support
from tests import virtual_training_support as support
from tests.conformance_support import X
from tests.conformance_support import Y
from tests.virtual_training_test import FAULTY
from tests.virtual_training_test import SLOW
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.core import topology

P, FIRST, LAST = 3, 17, 24  # steps of an epoch, and of the next


@pytest.fixture(scope="module", autouse=True)
def deterministic():
    """Runs give the same bits."""
    tf.config.experimental.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


def eamsgd():
    return optimizers.EAMSGD(
        0.05, momentum=0.8, communication_period=2, jit_compile=False
    )


def downpour():
    return optimizers.Downpour(0.05, communication_period=2, jit_compile=False)


def async_msgd():
    return optimizers.AsyncMSGD(
        keras.optimizers.schedules.InverseTimeDecay(0.05, 3, 0.5),
        momentum=0.5,
        delay_compensation=0.1,
        jit_compile=False,
    )


def admm():
    return optimizers.ADMM(0.05, communication_period=2, jit_compile=False)


# The inner node's children have gone, and it is not back yet, where it stops.
DYING = dataclasses.replace(
    SLOW, node_deaths=[(1, 0, 2.0)], node_recovery=6.0, move_s=2.0
)
WAYS = {
    "admm-blocking": (admm, "blocking", SLOW),
    "eamsgd-blocking": (eamsgd, "blocking", FAULTY),
    "eamsgd-overlapped": (eamsgd, "overlapped", SLOW),
    "downpour-overlapped": (downpour, "overlapped", FAULTY),
    "downpour-synchronous": (downpour, "synchronous", SLOW),
    "async_msgd-overlapped": (async_msgd, "overlapped", SLOW),
    "eamsgd-tree": (eamsgd, "tree", SLOW),
    "eamsgd-nodes": (eamsgd, "tree", DYING),
}


def tree_of(p):
    """Two workers below an inner node, the others at the root."""
    parents = {"0": "node", "1": "node", "node": "root", "2": "root"}
    parents |= {str(worker): "root" for worker in range(3, p)}
    return topology.from_parents(parents, topology.up_down(1, 2))


def strategy_of(way, p=P):
    _, protocol, timing = WAYS[way]
    if protocol == "tree":
        return strategies.VirtualClusterStrategy(
            p, timing=timing, topology=tree_of(p), seed=5
        )
    return strategies.VirtualClusterStrategy(
        p, timing=timing, protocol=protocol, seed=5
    )


def compiled(way, seed=1, p=P):
    keras.utils.set_random_seed(seed)
    with strategy_of(way, p).scope():
        model = conformance_support.noisy_network()
        model.compile(
            WAYS[way][0](),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.optimizer.build(model.trainable_variables)
    return model


def batches(first, steps):
    rows = slice(first * 2, (first + steps) * 2)
    data = tf.data.Dataset.from_tensor_slices((X[rows], Y[rows])).batch(2)
    return data.with_options(conformance_support._OPTIONS)


def fit(model, first, steps, **kwargs):
    model.fit(batches(first, steps), shuffle=False, verbose=0, **kwargs)


def state(model):
    """All that training goes on from."""
    under_way = model.optimizer._exchange.under_way.values()
    return [*conformance_support.state(model), *under_way.values()]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


FULL = ("eamsgd-overlapped", "downpour-synchronous")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(way, marks=[pytest.mark.full] if way in FULL else [])
        for way in WAYS
    ],
)
def trained(request, tmp_path_factory):
    """A model's files after the first part, and its state after both."""
    folder = tmp_path_factory.mktemp("virtual")
    model = compiled(request.param)
    fit(model, 0, FIRST)
    model.save(folder / "model.keras")
    model.save_weights(folder / "all.weights.h5")
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.save(str(folder / "checkpoint"))
    strategy = model.distribute_strategy
    clock = strategy.extended.clock
    waits = bool(clock.turns.late(FIRST).size)
    mail = model.optimizer._exchange.mail
    rows = mail.variables[0].numpy().shape[0] if mail.variables else 0
    middle = state(model)
    fit(model, FIRST, LAST)
    return {
        "way": request.param,
        "folder": folder,
        "checkpoint": path,
        "middle": middle,
        "end": state(model),
        "seconds": strategy.virtual_seconds,
        "staleness": strategy.staleness(),
        "written": clock.turns.written(FIRST),
        "waits": waits,
        "rows": rows,
    }


def test_something_is_under_way(trained):
    assert (
        trained["waits"]
        or np.any(trained["written"] >= 0)
        or trained["rows"] > P
    )


def ends_the_same(model, trained):
    assert_same(state(model), trained["middle"])
    fit(model, FIRST, LAST)
    assert_same(state(model), trained["end"])
    strategy = model.distribute_strategy
    assert strategy.virtual_seconds == trained["seconds"]
    np.testing.assert_array_equal(strategy.staleness(), trained["staleness"])


def test_a_saved_model_goes_on(trained):
    with strategy_of(trained["way"]).scope():
        model = keras.models.load_model(trained["folder"] / "model.keras")
    ends_the_same(model, trained)


def test_weights_and_a_checkpoint_go_on(trained):
    """Of one that was somewhere else, and then at the end."""
    model = compiled(trained["way"], seed=2)
    fit(model, 3, 5)
    model.load_weights(trained["folder"] / "all.weights.h5")
    ends_the_same(model, trained)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    checkpoint.restore(trained["checkpoint"]).assert_existing_objects_matched()
    ends_the_same(model, trained)


@pytest.mark.parametrize("way", ["downpour-overlapped"])
def test_a_backup_goes_on(way, tmp_path):
    """From where an epoch has ended."""

    def backup():
        return keras.callbacks.BackupAndRestore(
            tmp_path / "backup", delete_checkpoint=False
        )

    whole = compiled(way)
    fit(whole, 0, FIRST, epochs=2)
    first = compiled(way)
    fit(first, 0, FIRST, callbacks=[backup()])
    again = compiled(way, seed=2)
    fit(again, 0, FIRST, epochs=2, callbacks=[backup()])
    assert_same(state(again), state(whole))


def test_other_workers_begin_at_the_center(trained):
    model = compiled(trained["way"], seed=2, p=P + 1)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    loads = (
        lambda: model.load_weights(trained["folder"] / "all.weights.h5"),
        lambda: checkpoint.restore(trained["checkpoint"]),
    )
    for steps, load in enumerate(loads):
        with pytest.warns(optimizers.CheckpointWarning, match="start from the"):
            load()
        for variable in model.trainable_variables:
            native = compat.native_variable(variable)
            for worker in native.worker_values():
                np.testing.assert_array_equal(worker, native.numpy())
        fit(model, 0, 9)
        assert model.distribute_strategy.local_steps == 9 * (steps + 1)


# Weights that are set in the middle.


SET = {
    "easgd-blocking": (optimizers.EASGD, "blocking"),
    "easgd-overlapped": (optimizers.EASGD, "overlapped"),
    "easgd-synchronous": (optimizers.EASGD, "synchronous"),
    "downpour-blocking": (optimizers.Downpour, "blocking"),
    "downpour-overlapped": (optimizers.Downpour, "overlapped"),
    "downpour-synchronous": (optimizers.Downpour, "synchronous"),
    "local_sgd": (optimizers.LocalSGD, "synchronous"),
}
IN_TEST_ALL = ("downpour-synchronous",)  # The sum of a round is EASGD's, too.


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=[pytest.mark.full] * (way in IN_TEST_ALL))
        for way in SET
    ],
)
def test_nothing_brings_old_points_back(float64, way):
    """What is set, while much is under way, stays if nobody steps."""
    make, protocol = SET[way]

    def rate():
        is_inside = make is optimizers.LocalSGD
        return keras.optimizers.SGD(0.05) if is_inside else 0.05

    strategy = strategies.VirtualClusterStrategy(
        P, timing=SLOW, protocol=protocol, seed=5
    )
    model = support.build(
        strategy,
        lambda: make(rate(), communication_period=2, jit_compile=False),
    )
    clock = strategy.extended.clock
    first = 0
    for steps in (9, 1, 2):
        model.optimizer.learning_rate = 0.05
        support.fit(model, steps, first)
        assert np.any(clock.turns.written(clock.steps) >= 0)
        point = np.arange(5.0) + first
        model.optimizer.learning_rate = 0.0
        model.set_weights([point[:3], point[3:], np.array(3.0)])
        for _ in range(5):
            support.fit(model, 1, first + steps)
            trained = model.trainable_variables
            support.same(support.center_of(trained), point)
            support.same(support.workers_of(trained), np.tile(point, (P, 1)))
        first += steps + 5


def test_a_gradient_under_way_is_none(float64):
    strategy = strategies.VirtualClusterStrategy(
        P, timing=SLOW, protocol="overlapped", seed=5
    )
    model = support.build(
        strategy,
        lambda: optimizers.AsyncMSGD(0.05, momentum=0.0, jit_compile=False),
    )
    support.fit(model, 12)
    model.optimizer.learning_rate = 0.0
    point = np.arange(5.0)
    model.set_weights([point[:3], point[3:], np.array(3.0)])
    support.fit(model, 12, 12)
    support.same(support.center_of(model.trainable_variables), point)
