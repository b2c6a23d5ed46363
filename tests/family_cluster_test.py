"""Methods that push, over real servers, do what their pseudo-code does."""

import concurrent.futures
import dataclasses

import numpy as np
import pytest

from tests import cluster_support
from tests import family_support as support
from tests.family_support import cluster  # noqa: F401
from tests.reference import pushes

ETA = 0.05
RHO = 1.5

sizes = pytest.mark.parametrize(("num_workers", "num_shards"), [(2, 1), (3, 2)])
# Of them each number of workers and of servers occurs, and each protocol.
settings = pytest.mark.parametrize(
    ("num_workers", "num_shards", "protocol"),
    [(3, 2, "blocking"), (3, 1, "overlapped"), (2, 2, "overlapped")],
)


def begun(center, count, message, rates, protocol="blocking"):
    return support.joined_workers(
        center,
        count,
        lambda client, read: support.Pusher(
            client, read, message, rates, protocol
        ),
    )


def assert_row(workers, center, expected, row):
    support.assert_close(
        [worker.x for worker in workers],
        expected["workers"][row],
        f"workers, row {row}",
    )
    support.assert_close(
        center.center()[0], expected["center"][row], f"center, row {row}"
    )


# Rate, and the update that the average begins at.
AVERAGES = {
    "downpour": (None, 0),
    "adownpour": ("polyak", 0),
    "adownpour_later": ("polyak", 4),
    "mvadownpour": (0.2, 0),
    "mvadownpour_later": (0.2, 7),
}


@settings
@pytest.mark.parametrize(
    ("method", "tau"),
    [
        ("downpour", 1),
        ("downpour", 3),
        ("adownpour", 2),
        ("adownpour_later", 2),
        ("mvadownpour", 1),
        ("mvadownpour_later", 1),
    ],
)
def test_downpour_is_algorithm_3_and_its_averages(
    cluster,
    num_workers,
    num_shards,
    protocol,
    tau,
    method,
):
    average, average_from = AVERAGES[method]
    order = support.schedule(num_workers)
    expected = pushes.downpour(
        support.gradient,
        support.INITIAL,
        schedule=order,
        num_workers=num_workers,
        communication_period=tau,
        learning_rate=ETA,
        averaging_rate=average,
        average_from=average_from,
        overlapped=protocol == "overlapped",
    )
    center = cluster(
        num_shards,
        support.ADD
        if average is None
        else dataclasses.replace(support.AVERAGED, average_from=average_from),
    )
    rate = None if average == "polyak" else average
    workers = begun(
        center,
        num_workers,
        support.UPDATE,
        lambda p: {"averaging_rate": rate},
        protocol,
    )
    for row, i in enumerate(order, start=1):
        workers[i].step(ETA)
        if workers[i].clock % tau == 0:
            workers[i].visit()
        assert_row(workers, center, expected, row)
        if average is not None:
            support.assert_close(
                support.slot_of(center, "average"), expected["shown"][row]
            )
    # Somebody who looks sees the average; a worker, where it goes on.
    support.assert_close(support.shown(center), expected["shown"][-1])
    support.assert_close(
        workers[0].client.read_points().arrays[0], expected["center"][-1]
    )


OPTIONS = {
    "asgd": {"momentum": 0.0},
    "momentum": {"momentum": 0.7},
    "inverse": {"momentum": 0.7, "power": 1.0},
    "inverse_sqrt": {"momentum": 0.7, "power": 0.5},
    "scaled": {"momentum": 0.7, "scaled": True},
    "compensated": {"momentum": 0.7, "compensation": 0.3},
    "all": {
        "momentum": 0.5,
        "power": 0.5,
        "scaled": True,
        "compensation": 0.3,
    },
    "mdownpour": {"momentum": 0.7, "nesterov": True},
}


@settings
@pytest.mark.parametrize("name", OPTIONS)
def test_momentum_at_the_center_is_equation_1_3_and_algorithm_5(
    cluster,
    num_workers,
    num_shards,
    protocol,
    name,
):
    options = OPTIONS[name]
    order = support.schedule(num_workers)
    expected = pushes.center_momentum(
        support.gradient,
        support.INITIAL,
        schedule=order,
        num_workers=num_workers,
        learning_rate=ETA,
        overlapped=protocol == "overlapped",
        **options,
    )
    # Or the schedule shows little.
    assert len(set(expected["staleness"][num_workers:])) >= 3
    rule = support.NESTEROV if options.get("nesterov") else support.HEAVY_BALL
    compensation = options.get("compensation", 0.0)
    center = cluster(
        num_shards,
        dataclasses.replace(
            rule,
            adjustment=options.get("power", 0.0),
            scales_by_staleness=options.get("scaled", False),
            compensates=compensation > 0,
        ),
    )
    workers = begun(
        center,
        num_workers,
        support.GRADIENT,
        lambda p: {
            "learning_rate": ETA,
            "momentum": options["momentum"],
            "compensation": compensation,
        },
        protocol,
    )
    for row, i in enumerate(order, start=1):
        workers[i].step(ETA)
        workers[i].visit()
        assert_row(workers, center, expected, row)
    for shard in center.shards:  # What is measured is what was.
        staleness = [entry[2] for entry in shard.status()["staleness"]]
        assert staleness == list(expected["staleness"][1:])


@sizes
@pytest.mark.parametrize("tau", [1, 3])
@pytest.mark.parametrize("method", ["local_sgd", "diloco", "downpour"])
def test_who_meets_goes_on_from_the_center(
    cluster,
    num_workers,
    num_shards,
    tau,
    method,
):
    outer = (0.7, 0.9) if method == "diloco" else None
    steps = 6
    expected = pushes.meetings(
        support.gradient,
        support.INITIAL,
        num_workers=num_workers,
        communication_period=tau,
        learning_rate=ETA,
        num_steps=steps,
        outer=outer,
        adds=method == "downpour",
    )
    rule, message = {
        "local_sgd": (support.MEAN, support.POINTS),
        "diloco": (support.OUTER_NESTEROV, support.POINTS),
        "downpour": (support.ADD, support.UPDATE),
    }[method]
    rates = {"learning_rate": outer[0], "momentum": outer[1]} if outer else {}
    center = cluster(num_shards, rule)
    workers = begun(
        center, num_workers, message, lambda p: rates, "synchronous"
    )

    def turn(worker):
        worker.step(ETA)
        if worker.clock % tau == 0:
            worker.visit()

    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        for row in range(steps):
            list(pool.map(turn, workers, timeout=120))
            assert_row(workers, center, expected, row + 1)


@sizes
@pytest.mark.parametrize("tau", [1, 3])
def test_admm_is_equations_3_52_to_3_54(
    cluster,
    num_workers,
    num_shards,
    tau,
):
    order = support.schedule(num_workers)
    expected = pushes.admm(
        support.gradient,
        support.INITIAL,
        schedule=order,
        num_workers=num_workers,
        communication_period=tau,
        learning_rate=ETA,
        elasticity=RHO,
    )
    center = cluster(num_shards, support.ADMM_RULE)
    workers = support.joined_workers(
        center,
        num_workers,
        lambda client, read: support.AdmmWorker(client, read, RHO),
    )
    for row, i in enumerate(order, start=1):
        workers[i].turn(ETA, tau)
        assert_row(workers, center, expected, row)


def test_the_centers_statistics_follow_each_push(cluster):
    center = cluster(2, support.ADD)
    workers = begun(center, 2, support.UPDATE, lambda p: {})
    statistics = support.start(0)[1]
    for i in (0, 1, 1, 0, 1):
        workers[i].step(ETA)
        workers[i].visit()
        statistics = statistics + (workers[i].statistics - statistics) / 2
        support.assert_close(center.center()[1], statistics)
    assert np.all(workers[1].statistics == 2.0)  # Its own.
    assert len(statistics) == cluster_support.STATISTICS
