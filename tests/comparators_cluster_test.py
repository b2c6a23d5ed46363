"""Asynchronous DiLoCo and synchronous SGD over real servers, in float64."""

import concurrent.futures

import numpy as np
import pytest

from tests import family_support as support
from tests import reference
from tests.family_cluster_test import ETA
from tests.family_cluster_test import assert_row
from tests.family_cluster_test import begun
from tests.family_cluster_test import settings
from tests.family_cluster_test import sizes
from tests.family_support import cluster  # noqa: F401
from tf_elastic.core import rules


@settings
@pytest.mark.parametrize(
    ("tau", "delay", "activation"),
    [(1, None, 0.0), (3, 4, 0.2), ((2, 1, 4), None, 0.1)],
    ids=["each step", "periods", "own periods"],
)
def test_async_diloco_is_algorithm_3(
    cluster,  # noqa: F811
    num_workers,
    num_shards,
    protocol,
    tau,
    delay,
    activation,
):
    if isinstance(tau, tuple):
        tau = tau[:num_workers]
    order = support.schedule(num_workers)
    expected = reference.async_diloco(
        support.gradient,
        support.INITIAL,
        schedule=order,
        num_workers=num_workers,
        communication_period=tau,
        learning_rate=ETA,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        momentum_delay=delay,
        momentum_activation=activation,
        overlapped=protocol == "overlapped",
    )
    center = cluster(num_shards, rules.DelayedNesterov())
    workers = begun(
        center,
        num_workers,
        support.UPDATE,
        lambda p: {
            "learning_rate": 0.7,
            "momentum": 0.9,
            "delay": delay or p,
            "activation": activation,
        },
        protocol,
    )
    for row, i in enumerate(order, start=1):
        workers[i].step(ETA)
        if workers[i].clock % np.broadcast_to(tau, num_workers)[i] == 0:
            workers[i].visit()
        assert_row(workers, center, expected, row)
    velocity = support.slot_of(center, "velocity")
    support.assert_close(velocity, -expected["momentum"][-1])


# The three variables of parameters in `cluster_support`.
BLOCKS = [slice(0, 12), slice(12, 19), slice(19, 21)]


@settings
def test_heloco_corrects_whole_variables(
    cluster, num_workers, num_shards, protocol
):
    """Whatever the number of servers; two of five hold none."""
    order = support.schedule(num_workers)
    expected = reference.heloco(
        support.gradient,
        support.INITIAL,
        blocks=BLOCKS,
        schedule=order,
        num_workers=num_workers,
        communication_period=1,
        learning_rate=ETA,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        overlapped=protocol == "overlapped",
    )
    assert expected["kinds"][-1].min() > 1
    center = cluster(5 if num_shards == 2 else 1, rules.Aligned())
    workers = begun(
        center,
        num_workers,
        support.UPDATE,
        lambda p: {"learning_rate": 0.7, "momentum": 0.9, "weight": p**-0.5},
        protocol,
    )
    for row, i in enumerate(order, start=1):
        workers[i].step(ETA)
        workers[i].visit()
        assert_row(workers, center, expected, row)


@sizes
def test_sync_sgd_is_a_step_by_the_mean(
    cluster,  # noqa: F811
    num_workers,
    num_shards,
):
    steps = 6
    rates = {"learning_rate": ETA, "momentum": 0.8}
    expected = reference.sync_sgd(
        support.gradient,
        support.INITIAL,
        schedule=[*range(num_workers)] * steps,
        num_workers=num_workers,
        learning_rate=ETA,
        momentum=0.8,
    )
    center = cluster(num_shards, rules.MeanGradient())
    workers = begun(
        center, num_workers, support.GRADIENT, lambda p: rates, "synchronous"
    )

    def turn(worker):
        worker.step(ETA)
        worker.visit()

    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        for row in range(1, steps + 1):
            list(pool.map(turn, workers, timeout=120))
            assert_row(workers, center, expected, row * num_workers)
