"""The engine's moves can be followed: in NumPy, by `core` alone."""

import numpy as np
import pytest

from tests import replay_support
from tests import virtual_support as support
from tests.virtual_support import ADD
from tests.virtual_support import ELASTIC
from tests.virtual_support import GRADIENT
from tests.virtual_support import MEAN
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import moves as kinds

P = 4
INITIAL = np.array([1.0, -2.0])
FAULTY = Timing(
    LogNormal(1.0, 0.8),
    latency=0.1,
    deaths=0.005,
    recovery=10.0,
    joins=[(1, 5.0)],
)


# A mean is of all who meet.
WAYS = [
    (rule, protocol)
    for rule in (ELASTIC, ADD, GRADIENT, MEAN)
    for protocol in ("blocking", "overlapped", "synchronous")
    if rule is not MEAN or protocol == "synchronous"
]


class Followed:
    """As `replay_support.Bank` wants a timeline, cut off."""

    def __init__(self, made, count):
        self.rule = made.workload.rule
        self.protocol = made.workload.protocol
        self.num_workers = made.num_workers
        self._moves = support.first(made, count)

    def moves(self):
        return self._moves


class Bank(replay_support.Bank):
    """With the moves of an exchange that takes no time."""

    def visit(self, i, move):
        self.make(i, move)
        self.arrive(i, move)
        self.settle(i, move)

    def visiting_step(self, i, move):
        self.take_gradient(i, move)
        self.mail[i] = self.rule.delta(self.message(i), self.center)
        self.moved_by(self.mail[i], move)
        self.settle(i, move)
        self.take_step(i)

    def die(self, i, move):
        self.mail[i] = np.nan


def rates(p):
    found = replay_support.elastic_rates(0.9)(max(p, 1))
    return {**found, "learning_rate": 0.05, "momentum": 0.0}


def followed(timing, count=4000, **options):
    made = support.timeline(timing, P, **options)
    bank = Bank(
        Followed(made, count), INITIAL, lambda i, call, x: x, rates, 0.05
    )
    bank.follow(Followed(made, count))
    return bank


@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize(
    ("rule", "protocol"), WAYS, ids=[f"{r.name}-{name}" for r, name in WAYS]
)
@pytest.mark.parametrize("timing", [Timing(LogNormal(1.0, 0.8)), FAULTY])
@pytest.mark.parametrize("is_bounded", [False, True])
def test_the_moves_train(timing, rule, protocol, period, is_bounded):
    """None reads a mail that is not there, and the center gets to the level."""
    bounds = {"max_lag": 2.0} if is_bounded else {}
    if is_bounded and protocol != "synchronous":
        bounds["max_staleness"] = 12
    bank = followed(
        timing, rule=rule, protocol=protocol, period=period, **bounds
    )
    assert bank.updates > 50
    assert np.all(np.isfinite(bank.center["center"]))
    assert np.linalg.norm(bank.center["center"]) < 0.1


def test_the_fastest_train():
    bank = followed(FAULTY, rule=ADD, protocol="synchronous", quorum=2)
    assert np.linalg.norm(bank.center["center"]) < 1e-3


def test_an_exchange_that_takes_next_to_nothing_is_a_visit():
    """The one move is what the long form tends to."""
    step, nothing = LogNormal(1.0, 0.8), 1e-12
    for rule in (ELASTIC, ADD, GRADIENT, MEAN):
        visits = followed(Timing(step), 600, rule=rule)
        moves = 600 // 2 * (4 if rule is not ELASTIC else 8)
        waits = followed(Timing(step, latency=nothing), moves, rule=rule)
        assert visits.updates == waits.updates
        np.testing.assert_allclose(
            visits.center["center"], waits.center["center"], rtol=1e-9
        )


def test_constant_speeds_are_the_round_robin():
    """Against three lines of Algorithm 1."""
    bank = followed(1.0, 40 * P, rule=ELASTIC, period=2)
    x, center = np.tile(INITIAL, (P, 1)), INITIAL.copy()
    alpha = rates(P)["moving_rate"]
    for call in range(40):
        for i in range(P):
            slope = x[i].copy()
            if call % 2 == 0:
                difference = alpha * (x[i] - center)
                x[i] -= difference
                center += difference
            x[i] -= 0.05 * slope
    np.testing.assert_allclose(bank.center["center"], center, rtol=1e-12)
    assert {m.kind for m in Followed(support.timeline(1.0), 9).moves()} == {
        kinds.VISITING_STEP
    }
