"""Workers over real servers do what the papers' pseudo-code does."""

import concurrent.futures

import numpy as np
import pytest

from tests import cluster_support as support
from tests import reference
from tf_elastic import core
from tf_elastic.cluster import layout
from tf_elastic.cluster.worker import exchanger
from tf_elastic.core import rules

ETA = 0.05
TURNS = 24
INITIAL = np.linspace(-1.0, 2.0, support.N)
_GENERATOR = np.random.default_rng(11)
_NOISE = _GENERATOR.normal(size=(3, TURNS, support.N))
_CURVATURE = _GENERATOR.uniform(0.2, 2.0, size=(3, support.N))
_SCHEDULE = _GENERATOR.permutation(np.repeat(np.arange(6), TURNS // 6))


def gradient(worker, step, point):
    """A noisy quadratic, another one for each worker."""
    return _CURVATURE[worker] * point + _NOISE[worker, step]


def start(worker=0):
    del worker
    return [INITIAL.copy(), np.zeros(support.STATISTICS)]


def schedule(num_workers):
    """Any order, fixed; some come twice before another comes once."""
    return [int(i) % num_workers for i in _SCHEDULE]


@pytest.fixture
def cluster():
    made = []

    def make(*args, **options):
        made.append(support.Cluster(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def assert_state(workers, center, expected, row):
    close = {"rtol": 1e-12, "atol": 1e-12}
    for i, worker in enumerate(workers):
        np.testing.assert_allclose(
            worker.x[0],
            expected["workers"][row, i],
            err_msg=f"worker {i}, row {row}",
            **close,
        )
    np.testing.assert_allclose(
        center[0],
        expected["center"][row],
        err_msg=f"center, row {row}",
        **close,
    )


sizes = pytest.mark.parametrize(("num_workers", "num_shards"), [(2, 1), (3, 2)])
periods = pytest.mark.parametrize("tau", [1, 4])
momenta = pytest.mark.parametrize("momentum", [0.0, 0.8])


@sizes
@periods
@momenta
def test_blocking_is_algorithm_1_and_2(
    cluster, num_workers, num_shards, tau, momentum
):
    settings = {
        "schedule": schedule(num_workers),
        "num_workers": num_workers,
        "communication_period": tau,
        "learning_rate": ETA,
        "moving_rate": support.BETA / num_workers,
    }
    if momentum:
        expected = reference.eamsgd_asynchronous(
            gradient, INITIAL, momentum=momentum, **settings
        )
    else:
        expected = reference.easgd_asynchronous(gradient, INITIAL, **settings)
    center = cluster(num_shards)
    workers = center.workers(num_workers, start)
    for row, i in enumerate(settings["schedule"]):
        workers[i].begin()
        at = workers[i].x[0].copy()
        if workers[i].clock % tau == 0:
            workers[i].exchange()
        workers[i].step(gradient, ETA, momentum, at)
        assert_state(workers, center.center(), expected, row + 1)


@sizes
@pytest.mark.parametrize("average_from", [0, 5])
def test_the_average_on_servers_is_equation_3_13(
    cluster, num_workers, num_shards, average_from
):
    """Of centers as Algorithm 1 has them, from an update of theirs on."""
    order = schedule(num_workers)
    centers = reference.easgd_asynchronous(
        gradient,
        INITIAL,
        schedule=order,
        num_workers=num_workers,
        communication_period=1,
        learning_rate=ETA,
        moving_rate=support.BETA / num_workers,
    )["center"]
    rule = rules.TimeAverage(rules.Elastic(), average_from=average_from)
    center = cluster(num_shards, rule=rule)
    workers = center.workers(num_workers, start)
    averaged = []
    for row, i in enumerate(order):
        workers[i].begin()
        at = workers[i].x[0].copy()
        if workers[i].clock:  # It brings nothing before it has taken a step.
            averaged.append(centers[row])
        workers[i].exchange()
        workers[i].step(gradient, ETA, 0.0, at)
        assert center.shards[0].version == len(averaged)
        late = averaged[average_from:]
        mean = np.mean(late, axis=0) if late else centers[row + 1]
        found = center.client(None).look(center.layout)[0]
        np.testing.assert_allclose(found, mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            center.center()[0], centers[row + 1], rtol=1e-12, atol=1e-12
        )


@sizes
@periods
@momenta
def test_overlapped_is_the_protocol_of_section_2_2(
    cluster, num_workers, num_shards, tau, momentum
):
    expected = reference.easgd_overlapped(
        gradient,
        INITIAL,
        schedule=schedule(num_workers),
        num_workers=num_workers,
        communication_period=tau,
        learning_rate=ETA,
        moving_rate=support.BETA / num_workers,
        momentum=momentum,
    )
    center = cluster(num_shards)
    workers = center.workers(num_workers, start, "overlapped")
    for row, i in enumerate(schedule(num_workers)):
        workers[i].begin()
        if workers[i].clock % tau == 0:
            workers[i].overlap()
        workers[i].step(gradient, ETA, momentum)
        assert_state(workers, center.center(), expected, row + 1)
        np.testing.assert_allclose(
            [worker.pending() for worker in workers],
            expected["pending"][row + 1],
            rtol=1e-12,
            atol=1e-12,
        )


@sizes
@periods
@momenta
def test_synchronous_is_equations_2_3_and_2_4(
    cluster, num_workers, num_shards, tau, momentum
):
    settings = {
        "num_workers": num_workers,
        "communication_period": tau,
        "learning_rate": ETA,
        "moving_rate": support.BETA / num_workers,
        "num_steps": 8,
    }
    if momentum:
        expected = reference.eamsgd_synchronous(
            gradient, INITIAL, momentum=momentum, **settings
        )
    else:
        expected = reference.easgd_synchronous(gradient, INITIAL, **settings)
    center = cluster(num_shards)
    workers = center.workers(num_workers, start, "synchronous")

    def turn(worker):
        worker.begin()
        at = worker.x[0].copy()
        if worker.clock % tau == 0:
            worker.exchange()
        worker.step(gradient, ETA, momentum, at)

    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        for row in range(settings["num_steps"]):
            list(pool.map(turn, workers, timeout=120))
            assert_state(workers, center.center(), expected, row + 1)


def different(worker):
    return support.values(np.random.default_rng(worker))


@pytest.mark.parametrize("protocol", ["blocking", "overlapped", "synchronous"])
@pytest.mark.parametrize("num_shards", [1, 2])
def test_an_exchange_conserves_the_sum(cluster, protocol, num_shards):
    center = cluster(num_shards)
    workers = center.workers(3, different, protocol)

    def total():
        under_way = [0.0]
        if protocol == "overlapped":
            under_way = [worker.pending() for worker in workers]
        return (
            sum(worker.x[0] for worker in workers)
            + center.center()[0]
            - sum(under_way)
        )

    before = total()
    exchange = support.Worker.exchange
    if protocol == "overlapped":
        exchange = support.Worker.overlap
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            # At once, in whatever order they come. In the blocking protocol
            # each moves the center by just what it moves itself, whatever the
            # others do between its read and its push.
            list(pool.map(exchange, workers, timeout=120))
            np.testing.assert_allclose(total(), before, atol=1e-12)
    assert [shard.applied for shard in center.shards] == [15] * num_shards


@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compressed_both_sides_move_by_the_same(cluster, codec, dtype):
    variables = (
        layout.VariableSpec("a", (40, 51), dtype, layout.PARAMETERS),
        layout.VariableSpec("b", (3,), dtype, layout.PARAMETERS),
    )
    center = cluster(2, variables)

    def start(worker):
        generator = np.random.default_rng(worker)
        return [generator.normal(size=40 * 51 + 3).astype(dtype)]

    workers = center.workers(2, start, "overlapped", codec=codec)
    sums = []
    for turn in range(6):
        for worker in workers:
            moment = exchanger.Moment(turn, turn)
            worker.obey(worker.exchanger.collect(moment))
            before = center.center()[0]
            worker.exchanger.send(moment, worker.sent())
            worker.served()
            moved = worker.exchanger._pending.result(timeout=60)
            assert moved.arrays[0].dtype == dtype
            np.testing.assert_array_equal(
                center.center()[0],
                core.push(before, moved.arrays[0], support.BETA, 2),
            )
            # Rounded to a codec's steps, it is still about the difference.
            gap = np.abs(moved.arrays[0] - (worker.x[0] - before)).max()
            assert gap <= 0.05 * np.abs(worker.x[0] - before).max()
        sums.append(
            sum(w.x[0].astype(np.float64) - w.pending() for w in workers)
            + center.center()[0].astype(np.float64)
        )
    rounding = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(sums[-1], sums[0], atol=rounding)
    for worker in workers:
        assert 0 <= worker.client.counts.codec_error < 0.01
        assert worker.client.sessions[0].connection.bytes_sent > 0


@pytest.mark.parametrize("do", ["exchange", "read_and_push", "meet"])
def test_statistics_are_pushed_by_at_most_their_mean(cluster, do):
    center = cluster(2)
    beta = 1.8
    joined = center.client(0)
    joined.join(center.layout, support.values(0.0))
    moved = getattr(joined, do)(
        support.values(1.0), support.fixed_rates(0.5, beta)
    )
    assert moved.moving_rate == 0.5
    parameters, statistics = center.center()
    np.testing.assert_array_equal(parameters, np.full_like(parameters, beta))
    np.testing.assert_array_equal(statistics, np.ones_like(statistics))


def test_alpha_follows_those_who_are_there(cluster):
    center = cluster(2)
    first, second = center.workers(2, different)

    def exchanged(worker):
        worker.client.exchange(worker.sent(), support.rates)  # p is told.
        moved = worker.client.exchange(worker.sent(), support.rates)
        return moved.moving_rate

    assert exchanged(first) == support.BETA / 2
    third = center.client(7, 2)
    third.join(center.layout, different(7))
    assert exchanged(first) == exchanged(second) == support.BETA / 3
    third.leave()
    assert exchanged(first) == exchanged(second) == support.BETA / 2
    second.client.leave()
    assert exchanged(first) == support.BETA


def test_workers_whose_p_differs_conserve_the_sum_in_one_round(cluster):
    center = cluster(1)
    workers = center.workers(2, different, "synchronous")
    before = sum(w.x[0] for w in workers) + center.center()[0]

    def exchange(worker):
        # One of them has not heard yet that the other has joined.
        alpha = {0: support.BETA, 1: support.BETA / 2}[worker.client.worker]
        rates = support.fixed_rates(alpha, 2 * alpha)
        moved = worker.client.meet(worker.sent(), rates)
        assert moved.moving_rate == alpha
        worker.x[0] = core.pull(worker.x[0], moved.arrays[0], alpha)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(exchange, workers, timeout=120))
    after = sum(w.x[0] for w in workers) + center.center()[0]
    np.testing.assert_allclose(after, before, atol=1e-12)


@pytest.mark.parametrize("do", ["exchange", "read_and_push", "meet"])
def test_more_than_one_message_each_way(cluster, do):
    size = 1_300_001  # 10 MB, three messages of 4 MB
    variables = (
        layout.VariableSpec("a", (size,), "float64", layout.PARAMETERS),
    )
    center = cluster(1, variables)
    joined = center.client(0)
    first = np.arange(size, dtype=np.float64)
    joined.join(center.layout, [first])
    second = np.flip(first).copy()
    moved = getattr(joined, do)([second], support.rates)
    np.testing.assert_array_equal(moved.arrays[0], second - first)
    expected = core.push(first, second - first, support.BETA, 1)
    np.testing.assert_array_equal(joined.read()[0], expected)


def test_staleness_is_measured_in_versions_and_milliseconds(cluster):
    center = cluster(1)
    first, second = center.workers(2, different)
    for worker in (first, second, second, first):
        worker.client.exchange(worker.sent(), support.rates)
    entries = first.client.status()[0]["staleness"]
    assert [(worker, versions) for _, worker, versions, _ in entries] == [
        (0, 0),
        (1, 1),
        (1, 0),
        (0, 2),
    ]
    assert all(milliseconds >= 0 for *_, milliseconds in entries)
    later = first.client.status(staleness_since=entries[2][0])[0]
    assert [entry[0] for entry in later["staleness"]] == [entries[3][0]]
