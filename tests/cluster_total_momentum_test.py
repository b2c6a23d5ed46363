"""The total momentum that center servers measure, against a transcription."""

import dataclasses
import json

import numpy as np
import pytest

from tests import cluster_support
from tests import family_support as support
from tests.family_support import cluster  # noqa: F401
from tests.reference import total_momentum as reference
from tf_elastic.callbacks import momentum_meters
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.registration import PushId

ETA = 0.05
PLAIN = {"momentum": 0.7}
OPTIONS = {
    "asgd": {"momentum": 0.0},
    "momentum": PLAIN,
    "inverse_sqrt": {**PLAIN, "power": 0.5},
    "scaled": {**PLAIN, "scaled": True},
    "compensated": {**PLAIN, "compensation": 0.3},
    "all": {**PLAIN, "power": 0.5, "scaled": True, "compensation": 0.3},
    "mdownpour": {**PLAIN, "nesterov": True},
    "of_each": {"momentum": [0.7, 0.2, 0.5], "nesterov": True},
}


class Smooth(support.Pusher):
    """Without noise; a loss whose curvature all workers share."""

    def step(self, learning_rate):
        self.gradient = smooth_gradient(None, None, self.x)
        self.clock += 1


def smooth_gradient(worker, step, point):
    del worker, step
    return np.linspace(0.2, 1.0, len(point)) * point


def run(
    center, options, count, order, protocol="blocking", kind=support.Pusher
):
    """Lets workers take their turns."""
    momentum = np.broadcast_to(options["momentum"], 3)
    workers = support.joined_workers(
        center,
        count,
        lambda client, read: kind(
            client,
            read,
            support.GRADIENT,
            lambda p: {
                "learning_rate": ETA,
                "momentum": float(momentum[client.worker]),
                "compensation": options.get("compensation", 0.0),
            },
            protocol,
        ),
    )
    for i in order:
        workers[i].step(ETA)
        workers[i].visit()
    return workers


def rule_of(options):
    rule = support.NESTEROV if options.get("nesterov") else support.HEAVY_BALL
    return dataclasses.replace(
        rule,
        adjustment=options.get("power", 0.0),
        scales_by_staleness=options.get("scaled", False),
        compensates=options.get("compensation", 0.0) > 0,
    )


def cuts_of(num_shards):
    n = cluster_support.N
    return [
        slice(n * k // num_shards, n * (k + 1) // num_shards)
        for k in range(num_shards)
    ]


def statuses(center):
    """As they come over the wire."""
    return json.loads(json.dumps([s.status() for s in center.shards]))


@pytest.mark.parametrize(
    ("count", "num_shards", "protocol"),
    [
        (3, 2, "blocking"),
        (3, 1, "overlapped"),
        (2, 2, "overlapped"),
        (2, 1, "blocking"),
    ],
)
@pytest.mark.parametrize("name", OPTIONS)
def test_each_reading_is_what_looking_back_shows(
    cluster,
    count,
    num_shards,
    protocol,
    name,
):
    options = dict(OPTIONS[name])
    order = support.schedule(count)
    center = cluster(num_shards, rule_of(options))
    run(center, options, count, order, protocol)
    momentum = np.broadcast_to(options.pop("momentum"), 3)[:count]
    expected = reference.readings(
        support.gradient,
        support.INITIAL,
        schedule=order,
        num_workers=count,
        learning_rate=ETA,
        momentum=momentum,
        overlapped=protocol == "overlapped",
        cuts=cuts_of(num_shards),
        **options,
    )
    every = []
    for status, of_shard in zip(statuses(center), expected, strict=True):
        found = status["total_momentum"]
        # All but those of gradients that were taken at the first center.
        first = 2 if protocol == "overlapped" else 1
        assert len(found) == len(order) - first
        assert [r[0] for r in found] == list(range(1, len(found) + 1))
        assert [r[1:3] for r in found] == [list(r[:2]) for r in of_shard]
        support.assert_close([r[3] for r in found], [r[2] for r in of_shard])
        every += of_shard
    reading = momentum_meters.ClusterTotalMomentum(
        lambda: statuses(center)
    ).read()
    assert reading.total == pytest.approx(
        np.median([r[2] for r in every]), abs=1e-11
    )
    assert reading.asynchrony == pytest.approx(
        np.median([r[2] - r[1] for r in every]), abs=1e-11
    )


@pytest.mark.parametrize("name", [n for n in OPTIONS if n != "of_each"])
def test_of_one_worker_it_is_the_momentum(cluster, name):
    """Noise or not, and whatever the center does to the rate."""
    options = OPTIONS[name]
    center = cluster(2, rule_of(options))
    run(center, options, 1, [0] * 12)
    for status in statuses(center):
        found = [r[3] for r in status["total_momentum"]]
        assert found == pytest.approx([options["momentum"]] * 11, abs=1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
def test_staleness_adds_to_it(cluster, nesterov):
    """Workers in turn, or one whose answers come a period later."""
    options = {**PLAIN, "nesterov": nesterov}
    added = []
    for count, protocol in (
        (1, "blocking"),
        (1, "overlapped"),
        (2, "blocking"),
        (3, "blocking"),
    ):
        center = cluster(1, rule_of(options))
        order = [k % count for k in range(10)]
        run(center, options, count, order, protocol, Smooth)
        reading = momentum_meters.ClusterTotalMomentum(
            lambda center=center: statuses(center)
        ).read()
        assert reading.asynchrony == pytest.approx(
            reading.total - 0.7, abs=1e-12
        )
        added.append(reading.asynchrony)
    alone, overlapped, two, three = added
    assert alone == pytest.approx(0, abs=1e-9)
    assert min(overlapped, two) > 0.01
    assert three > two + 0.01


def test_messages_that_are_no_gradients_say_nothing(cluster):
    for rule, message in (
        (support.ADD, support.UPDATE),
        (support.OUTER_NESTEROV, support.POINTS),
    ):
        center = cluster(1, rule)
        worker = support.joined_workers(
            center,
            1,
            lambda client, read, message=message: support.Pusher(
                client,
                read,
                message,
                lambda p: {"learning_rate": 1.0, "momentum": 0.5},
            ),
        )[0]
        for _ in range(4):
            worker.step(ETA)
            worker.visit()
        assert center.shards[0].status()["total_momentum"] == []
    elastic = cluster(1)
    elastic.workers(1, support.start)[0].exchange()
    assert elastic.shards[0].status()["total_momentum"] == []


# One shard alone.

SIZE = 5000
MIXED = layout.Layout(
    [
        layout.VariableSpec("kernel", (SIZE,), "float32", layout.PARAMETERS),
        layout.VariableSpec("mean", (3,), "float64", layout.STATISTICS),
        layout.VariableSpec("bias", (SIZE,), "float64", layout.PARAMETERS),
    ],
    1,
    support.HEAVY_BALL,
)
RATES = {"learning_rate": 0.05, "momentum": 0.5, "num_workers": 1}


class Alone:
    """A shard, and workers that push what one asks for."""

    def __init__(self, shard=None, size=1.0):
        self.shard = shard or cluster_support.new_node()
        self.version, self.sequence, self.lives = {}, 0, 0
        if shard is None:
            self.join(0)
            self.shard.election.accepted = 0
            self.shard.initialize(0, 1, 0, self.values(size))

    def values(self, size):
        return [
            np.linspace(size, 2 * size, n).astype(section.dtype)
            for n, section in zip(
                MIXED.shard_sizes(0), MIXED.sections, strict=True
            )
        ]

    def join(self, worker):
        self.lives += 1
        self.shard.join(
            worker, self.lives, 1, MIXED.describe(), f"{self.lives}"
        )

    def read(self, worker):
        news, points = self.shard.exchanges.read(worker, self.lives)
        self.version[worker] = news["version"]
        return points

    def push(self, worker, gradients):
        self.sequence += 1
        push_id = PushId(
            worker, self.lives, self.sequence, self.version[worker]
        )
        news, points = self.shard.exchanges.take(
            push_id, [g.copy() for g in gradients], RATES
        )
        self.version[worker] = news["version"]
        return points

    def readings(self):
        return self.shard.status()["total_momentum"]


def test_a_sample_of_the_parameters_is_enough_and_the_same_again():
    found = []
    for _ in range(2):
        one = Alone()
        points = one.read(0)
        for _ in range(4):
            # Only every other coordinate moves; those of statistics would
            # say something else.
            gradients = [p * (np.arange(len(p)) % 2) for p in points]
            points = one.push(0, gradients)
        found.append(one.readings())
        assert [r.total_momentum for r in found[-1]] == pytest.approx(
            [0.5] * 3, abs=1e-5
        )
        meter = one.shard.exchanges.total_momentum
        kept = meter._newest.center
        assert kept.size == 1000
        # In both dtypes, and nowhere else.
        sizes = [
            s.size
            for s, section in zip(meter._sample, MIXED.sections, strict=True)
            if section.role == layout.PARAMETERS
        ]
        assert sum(sizes) == 1000 and min(sizes) > 400
    assert found[0] == found[1]


def test_numbers_that_leave_the_range_are_no_reading():
    one = Alone(size=1e38)
    points = one.read(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(4):
            points = one.push(
                0, [np.full_like(p, np.finfo(p.dtype).max) for p in points]
            )
    assert all(np.isfinite(r.total_momentum) for r in one.readings())


def test_only_the_newest_readings_are_kept():
    one = Alone()
    points = one.read(0)
    for _ in range(70):
        points = one.push(0, points)
    numbers = [r.number for r in one.readings()]
    assert numbers == list(range(6, 70))
    assert one.readings() == one.readings()
    one.push(0, points)
    assert [r.number for r in one.readings()] == list(range(7, 71))
    assert len(json.dumps(one.readings())) < 5000


def test_a_worker_that_was_lost_begins_anew():
    one = Alone()
    points = one.read(0)
    for _ in range(3):
        points = one.push(0, points)
    assert len(one.readings()) == 2
    before = dict(one.version)
    one.join(0)  # Its next life has read nothing yet.
    one.version = before
    one.push(0, points)
    assert len(one.readings()) == 2
    one.push(0, points)
    assert len(one.readings()) == 3


def test_a_center_that_is_started_again_counts_its_versions_anew():
    """A version that a gradient names may be another center by then."""
    one = Alone()
    points = one.read(0)
    points = one.push(0, points)
    state, arrays = one.shard.snapshot()
    old = points
    for _ in range(4):
        old = one.push(0, old)
    assert one.version[0] == 5

    other = cluster_support.new_node()
    other.restore(state, arrays)
    again = Alone(other)
    again.lives = one.lives
    again.sequence = one.sequence
    assert again.readings() == []
    # Another worker brings the center past version 5 meanwhile.
    other.join(1, 1, 2, MIXED.describe(), "1/1")
    points = again.read(1)
    for _ in range(6):
        points = again.push(1, points)
    readings = again.readings()
    assert [r.worker for r in readings] == [1] * 5
    again.version[0] = one.version[0]
    again.push(0, old)
    assert again.readings() == readings
    assert [r.total_momentum for r in readings] == pytest.approx(
        [0.5] * 5, abs=1e-5
    )


# The meter.


def reading(number, momentum, total):
    return [number, 0, momentum, total]


def test_the_meter_takes_what_is_new_of_every_server_that_is_there():
    looks = iter(
        [
            [{"total_momentum": []}, None],
            [
                {"total_momentum": [reading(1, 0.5, 0.6)]},
                {"total_momentum": [reading(1, 0.5, 0.8)]},
            ],
            [
                {"total_momentum": [reading(1, 0.5, 0.6)]},
                {"total_momentum": [reading(1, 0.5, 0.8)]},
            ],
            [
                {"total_momentum": [reading(1, 0.5, 9.0), reading(2, 0, 1)]},
                None,
            ],
            [None, None],
            [  # The first one has been started again.
                {"total_momentum": [reading(1, 0.25, 0.5)]},
                {"total_momentum": [reading(1, 0.5, 0.8)]},
            ],
        ]
    )
    meter = momentum_meters.ClusterTotalMomentum(lambda: next(looks))
    found = [meter.read() for _ in range(6)]
    assert [r and r.total for r in found] == [
        None,
        pytest.approx(0.7),
        None,
        1.0,
        None,
        0.5,
    ]
    assert found[1].asynchrony == pytest.approx(0.2)
    assert found[5].asynchrony == 0.25
