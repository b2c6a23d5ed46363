"""What a cluster has for which optimizer, and what it refuses.

With it, what takes two workers. `conformance_cluster_test.py` has the rest.
"""

import threading

import keras
import numpy as np
import pytest

from tests import conformance_support as support
from tests.conformance_cases import CASES
from tests.conformance_cluster_support import Cluster
from tests.conformance_cluster_support import protocol_of
from tests.conformance_support import X
from tests.conformance_support import Y
from tests.conformance_support import compiled
from tf_elastic import compat
from tf_elastic import strategies
from tf_elastic.cluster.worker import exchanger


@pytest.fixture
def servers():
    made = Cluster()
    yield made
    made.close()


@pytest.mark.parametrize(
    "name",
    [
        "EAMSGD",
        "MVADownpour",
        "DiLoCo(SGD)",
        pytest.param("AsyncMSGD", marks=pytest.mark.full),
        pytest.param("ADMM", marks=pytest.mark.full),
    ],
)
def test_center_statistics_are_between_those_of_two_workers(servers, name):
    """Both take turns, on data of their own; where they meet, at once."""
    case = CASES[name]
    models = [
        compiled(
            case,
            support.normalized_network,
            strategy=servers.strategy(protocol_of(case), i, 2),
            run_eagerly=True,
        )
        for i in range(2)
    ]

    def step(i, model):
        with model.distribute_strategy.scope():
            model.train_on_batch(X[:24] + 2 * i, Y[:24])

    for _ in range(9):
        if protocol_of(case) == "synchronous":
            threads = [
                threading.Thread(target=step, args=each)
                for each in enumerate(models)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
        else:
            for each in enumerate(models):
                step(*each)
    first, second = (
        compat.native_variable(m.layers[1].moving_mean).worker_values()[0]
        for m in models
    )
    center = models[0].layers[1].moving_mean.numpy()
    apart = np.linalg.norm(first - second)
    assert apart > 0.5
    assert np.linalg.norm(center - (first + second) / 2) < 0.3 * apart


# What there is, and what is refused with a sentence.


@pytest.mark.parametrize("protocol", exchanger.PROTOCOLS)
@pytest.mark.parametrize("name", CASES)
def test_every_protocol_is_there_or_refused(servers, name, protocol):
    case = CASES[name]
    method = case.make().method
    strategy = servers.strategy(protocol, workers=case.num_workers)
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        optimizer = case.make()
    if protocol in method.protocols:
        optimizer.build(model.trainable_variables)
        assert optimizer.built
        return
    with pytest.raises(ValueError) as error:
        optimizer.build(model.trainable_variables)
    assert f"Received: protocol='{protocol}'" in str(error.value)
    assert method.refusal in str(error.value)
    assert str(method.protocols) in str(error.value)


@pytest.mark.parametrize("name", CASES)
def test_a_synchronous_strategy_refuses_every_optimizer(name):
    strategy = strategies.MultiWorkerMirroredStrategy._from_local_devices(
        ["CPU:0"]
    )
    model = compiled(CASES[name], strategy=strategy, run_eagerly=True)
    with pytest.raises(ValueError, match="(?s)elastic.*ElasticMirroredStr"):
        model.train_on_batch(X[:12], Y[:12])
