"""Virtual clusters of equal workers equal what needs no virtual time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tests import conformance_cases as cases
from tests import conformance_support
from tests import virtual_training_support as support
from tests.conformance_support import BATCH
from tests.conformance_support import X
from tests.conformance_support import Y
from tests.virtual_training_support import NOISE
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.optimizers import registry


@pytest.fixture(scope="module")
def as_written():
    """Runs give the same bits, and no graph is rewritten to others."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    yield
    tf_config.disable_op_determinism()
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": False, **options}
    )


def batches(rows):
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(rows)
    return dataset.with_options(conformance_support._OPTIONS)


def state(model):
    """All but the count of exchanges, which is one for each worker here."""
    center_step = model.optimizer.center_step
    natives = [
        compat.native_variable(variable)
        for variable in model.variables + model.optimizer.variables
        if variable is not center_step
    ] + model.distribute_strategy.extended.untrained_variables()
    return [v.numpy() for v in natives], [v.worker_values() for v in natives]


def in_turn(case):
    """Those that meet one after another in both."""
    method = registry.of_class(type(case.make()))
    return case.num_workers > 1 and "round_robin" in method.orders


DECAY = keras.optimizers.schedules.InverseTimeDecay(0.05, 3, 0.5)
CASES = {name: case for name, case in cases.CASES.items() if in_turn(case)} | {
    "EAMSGD, first cut": cases.Case(
        lambda: optimizers.EAMSGD(
            DECAY,
            momentum=0.8,
            communication_period=2,
            center_average=0.3,
            average_from="first_cut",
            jit_compile=False,
        )
    ),
    "EAMSGD, accumulation": cases.Case(
        lambda: optimizers.EAMSGD(
            0.05,
            communication_period=2,
            gradient_accumulation_steps=2,
            jit_compile=False,
        )
    ),
    "AsyncMSGD, decay": cases.Case(
        lambda: optimizers.AsyncMSGD(
            DECAY, momentum=0.5, adjustment="inverse_sqrt", jit_compile=False
        )
    ),
    "ADMM, each step": cases.Case(
        lambda: optimizers.ADMM(DECAY, elasticity=0.5, jit_compile=False)
    ),
    "ADMM, accumulation": cases.Case(
        lambda: optimizers.ADMM(
            DECAY,
            communication_period=2,
            gradient_accumulation_steps=2,
            jit_compile=False,
        )
    ),
}
IN_MAKE_TEST = {
    *("EAMSGD, first cut", "MVADownpour", "AsyncMSGD", "ADMM"),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=name,
            marks=[] if name in IN_MAKE_TEST else [pytest.mark.full],
        )
        for name, case in CASES.items()
    ],
)
def test_in_turn_it_is_the_round_robin_to_the_bit(case, as_written):
    """With statistics and random masks, each worker's own."""
    p = case.num_workers
    on_devices = strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(p)], "round_robin", closing=False
    )
    protocol = "blocking"
    virtual = strategies.VirtualClusterStrategy(p, protocol=protocol)
    models = []
    for strategy, rows in ((on_devices, BATCH), (virtual, BATCH // p)):
        model = conformance_support.compiled(
            case, conformance_support.noisy_network, strategy=strategy
        )
        conformance_support.fit(model, data=batches(rows))
        models.append(model)
    steps = len(X) // BATCH
    assert virtual.local_steps == steps * p
    assert virtual.virtual_seconds == steps
    for expected, found in zip(*map(state, models), strict=True):
        assert len(expected) == len(found)
        for a, b in zip(expected, found, strict=True):
            # What all workers of a device share is one value there.
            np.testing.assert_array_equal(a, np.broadcast_to(b, a.shape))


def elastic(order):
    del order
    return optimizers.EAMSGD(
        DECAY, momentum=0.8, communication_period=2, jit_compile=False
    )


def downpour(order):
    del order
    return optimizers.Downpour(DECAY, communication_period=2, jit_compile=False)


def diloco(order):
    del order
    return optimizers.DiLoCo(
        keras.optimizers.SGD(DECAY, momentum=0.5),
        communication_period=2,
        jit_compile=False,
    )


def sync_sgd(order):
    del order
    return optimizers.SyncSGD(DECAY, momentum=0.5, jit_compile=False)


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (elastic, "jacobi"),
        (downpour, "gauss_seidel"),
        (diloco, "gauss_seidel"),
        (sync_sgd, "gauss_seidel"),
    ],
)
def test_all_at_once_it_is_the_synchronous_order(float64, make, order):
    p, steps = 3, 21
    on_devices = strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(p)], order, closing=False
    )
    virtual = strategies.VirtualClusterStrategy(p, protocol="synchronous")
    models = []
    for strategy, rows in ((on_devices, p), (virtual, 1)):
        model = support.build(strategy, lambda: make(order))
        x = NOISE[: steps * p]
        model.fit(x, x[:, 0], batch_size=rows, shuffle=False, verbose=0)
        models.append(model)
    expected, found = models
    for read in (support.center_of, support.workers_of):
        support.same(
            read(found.trainable_variables), read(expected.trainable_variables)
        )
        if order != "jacobi":  # There they are as before the gradients.
            support.same(read([found.seen]), read([expected.seen]))


@pytest.mark.parametrize("momentum", [0.0, 0.875])
def test_equal_workers_are_a_prescribed_delay(float64, momentum):
    """Each gradient of p workers in turn is p - 1 updates old.

    The first p are all taken at the beginning, and by `DelayedGradient` of
    the first batch.
    """
    p, steps = 4, 60
    virtual = support.build(
        strategies.VirtualClusterStrategy(p),
        lambda: optimizers.AsyncMSGD(
            0.05, momentum=momentum, jit_compile=False
        ),
    )
    late = support.build(
        tf.distribute.get_strategy(),
        lambda: optimizers.DelayedGradient(
            keras.optimizers.SGD(0.05, momentum=momentum), delay=p - 1
        ),
    )
    x = NOISE[:steps]
    late.fit(x, x[:, 0], batch_size=1, shuffle=False, verbose=0)
    x = np.concatenate([np.repeat(x[:1], p - 1, axis=0), x])[:steps]
    virtual.fit(x, x[:, 0], batch_size=1, shuffle=False, verbose=0)
    support.same(
        support.center_of(virtual.trainable_variables),
        support.center_of(late.trainable_variables),
    )
    np.testing.assert_array_equal(
        virtual.distribute_strategy.staleness(), [1] * (p - 1) + [steps - p + 1]
    )
