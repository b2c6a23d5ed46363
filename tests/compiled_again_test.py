"""A model on a cluster that is compiled again after some training."""

import numpy as np
import pytest

from tests import elastic_multi_worker_test as elastic
from tf_elastic import compat
from tf_elastic import optimizers

cluster, worker = elastic.cluster, elastic.worker

PERIOD = {"communication_period": 4}  # 8 batches an epoch
METHODS = {
    "EASGD": lambda: optimizers.EASGD(0.05, beta=0.5, **PERIOD),
    "Downpour": lambda: optimizers.Downpour(0.05, **PERIOD),
    "ADownpour": lambda: optimizers.ADownpour(0.05, **PERIOD),
    "MDownpour": lambda: optimizers.MDownpour(0.02, momentum=0.5),
    "AsyncMSGD": lambda: optimizers.AsyncMSGD(0.02, momentum=0.5),
    "LocalSGD": lambda: optimizers.LocalSGD("sgd", **PERIOD),
    "DiLoCo": lambda: optimizers.DiLoCo("sgd", **PERIOD),
    "AsyncDiLoCo": lambda: optimizers.AsyncDiLoCo("sgd", **PERIOD),
    "HeLoCo": lambda: optimizers.HeLoCo("sgd", **PERIOD),
    "SyncSGD": lambda: optimizers.SyncSGD(0.02, momentum=0.5),
    "ADMM": lambda: optimizers.ADMM(0.02, elasticity=0.5, **PERIOD),
}
# (Elastic averaging has one exchange more at the end of each `fit`.)
GO_ON = [name for name in METHODS if name not in ("ADMM", "EASGD")]
# Their centers move, or their averages do, when nothing is brought.
BY_THEMSELVES = [
    *("ADownpour", "MDownpour", "AsyncMSGD", "DiLoCo"),
    *("AsyncDiLoCo", "HeLoCo", "SyncSGD"),
]


def compile_again(model, method):
    with model.distribute_strategy.scope():
        model.compile(METHODS[method](), loss=model.loss)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(
            method,
            # Gradients one after the other, and points that meet.
            marks=[]
            if method in ("AsyncMSGD", "DiLoCo")
            else [pytest.mark.full],
        )
        for method in GO_ON
    ],
)
def test_it_goes_on_where_it_was(cluster, worker, method):
    """Two times two epochs are four: nothing is lost or brought twice."""
    runs = []
    for epochs in ([4], [2, 2]):
        servers = cluster()
        strategy = worker(servers, protocol=own_protocol(method))
        model = elastic.compiled(strategy, METHODS[method])
        for k, number in enumerate(epochs):
            if k:
                compile_again(model, method)
            elastic.fit(model, epochs=number)
        kernel = compat.native_variable(model.layers[0].kernel)
        center = elastic.flat_center(servers, strategy)
        runs.append([servers.shards[0].version, *kernel.worker_values()])
        runs[-1] += center
    assert runs[0][0] == runs[1][0]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def own_protocol(method):
    if method in ("LocalSGD", "DiLoCo", "SyncSGD"):
        return "synchronous"
    return "blocking"


FREEZE = ["Downpour", "LocalSGD", *BY_THEMSELVES]


def freezing(*quick):
    """Methods as parameters; but for these only in `make test-all`."""
    return pytest.mark.parametrize(
        "method",
        [
            pytest.param(m, marks=() if m in quick else pytest.mark.full)
            for m in FREEZE
        ],
    )


def check_rest_and_motion(servers, model, method, change):
    """Layer 0 rests when `change(False)` was called, else both move."""
    kernel = compat.native_variable(model.layers[0].kernel)
    for trainable in (False, True):
        model.layers[0].trainable = trainable
        change()
        shown = kernel.numpy()
        center = elastic.center_of(servers, model, 0)
        head = model.layers[1].kernel.numpy()
        elastic.fit(model)
        assert np.abs(model.layers[1].kernel.numpy() - head).max() > 1e-3
        held = elastic.center_of(servers, model, 0)
        for before, after in ((shown, kernel.numpy()), (center, held)):
            moved = np.abs(after - before).max()
            assert moved > 1e-4 if trainable else moved == 0
        if not trainable:  # A worker is where the center is.
            np.testing.assert_array_equal(kernel.worker_values()[0], held)
        if method != "ADownpour":  # An average is shown.
            np.testing.assert_array_equal(kernel.numpy(), held)


@freezing("LocalSGD", "MDownpour", "ADownpour")
def test_layers_are_frozen_and_thawed(cluster, worker, method):
    servers = cluster(2)
    strategy = worker(servers, protocol=own_protocol(method))
    model = elastic.fit(elastic.compiled(strategy, METHODS[method]))
    check_rest_and_motion(
        servers, model, method, lambda: compile_again(model, method)
    )


@freezing("DiLoCo")
def test_layers_are_frozen_without_a_new_compile(cluster, worker, method):
    """Eager steps see at once what is trained; what is traced does not."""
    servers = cluster(2)
    strategy = worker(servers, protocol=own_protocol(method))
    model = elastic.compiled(strategy, METHODS[method], run_eagerly=True)
    elastic.fit(model, epochs=1)
    check_rest_and_motion(servers, model, method, lambda: None)


def test_a_velocity_is_zero_when_a_layer_is_thawed(cluster, worker):
    """By hand: what rests is left out of the center's momentum alone."""
    servers = cluster()
    strategy = worker(servers, protocol="blocking")
    model = elastic.fit(elastic.compiled(strategy, METHODS["MDownpour"]))
    velocities = lambda: strategy.extended.sessions[0].exchange._cut(  # noqa: E731
        servers.shards[0].state.slots["velocity"]
    )
    before = velocities()
    assert np.abs(before[0]).max() > 0
    model.layers[0].trainable = False
    compile_again(model, "MDownpour")
    elastic.fit(model, epochs=1)
    after = velocities()
    assert not after[0].any() and after[2].any()


@pytest.mark.parametrize(
    ("method", "then", "trainable"),
    [
        ("ADMM", "ADMM", True),
        ("Downpour", "EASGD", True),
        ("EASGD", "Downpour", True),
        ("Downpour", "ADownpour", True),
    ],
)
def test_what_cannot_go_on(cluster, worker, method, then, trainable):
    strategy = worker(cluster(), protocol=None)  # each method's own
    model = elastic.fit(elastic.compiled(strategy, METHODS[method]), epochs=1)
    model.layers[0].trainable = trainable
    compile_again(model, then)
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="does not go on"):
        elastic.fit(model, epochs=1)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
