"""All methods train in a virtual cluster, by all their protocols."""

import inspect

import keras
import numpy as np
import pytest

from tf_elastic import strategies
from tf_elastic.optimizers import registry
from tf_elastic.timeline import verify
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing

TIMING = Timing(step=LogNormal(0.1, 0.3), latency=0.02, service=0.005)


def cases():
    """The first protocol of each method; the others in `test-all`."""
    for method in registry.listed():
        for i, protocol in enumerate(method.protocols):
            marks = [pytest.mark.full] if i else []
            name = f"{method.name}-{protocol}"
            yield pytest.param(method, protocol, id=name, marks=marks)


def optimizer_of(method):
    known = inspect.signature(method.cls).parameters
    period = {"communication_period": 2}
    return method.cls(
        "sgd" if "inner_optimizer" in known else 0.01,
        jit_compile=False,
        **(period if "communication_period" in known else {}),
    )


@pytest.mark.parametrize(("method", "protocol"), list(cases()))
def test_it_trains(method, protocol):
    p = 1 if method.one_worker else 3
    strategy = strategies.VirtualClusterStrategy(
        p, timing=TIMING, protocol=protocol
    )
    with strategy.scope():
        dense = keras.layers.Dense
        model = keras.Sequential([keras.Input((4,)), dense(3), dense(1)])
        model.compile(optimizer_of(method), loss="mse")
    before = model.get_weights()
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model.fit(x, x.sum(1, keepdims=True), batch_size=4, verbose=0)
    moved = [
        np.abs(a - b).max()
        for a, b in zip(before, model.get_weights(), strict=True)
    ]
    assert all(0 < each < 10 for each in moved)
    assert strategy.local_steps == 16
    assert strategy.virtual_seconds > 0.3
    assert not verify.verify(list(strategy.events()))
