"""What is known of queues, found in virtual time, within the sampling error."""

import itertools
import math

import numpy as np
import pytest

from tests import virtual_support as support
from tests.virtual_support import ADD
from tests.virtual_support import ELASTIC
from tf_elastic.timeline.virtual import Exponential
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import moves as kinds

ERRORS = 4.5  # standard errors that a mean may be off


def agrees(found, expected, batches=40):
    """Whether a mean is as expected; of batches, as neighbours are alike."""
    found = np.asarray(found, float)
    means = [part.mean() for part in np.array_split(found, batches)]
    error = np.std(means, ddof=1) / math.sqrt(batches)
    assert error < 0.05 * max(expected, 1e-9) or expected == 0
    assert found.mean() == pytest.approx(expected, abs=ERRORS * error + 1e-12)


def moves_of(timing, p, count, *kinds_, skip=0, **options):
    made = support.timeline(timing, p, **options)
    found = [m for m in support.first(made, count) if m.kind in kinds_]
    return found[skip:]


@pytest.mark.parametrize("p", [1, 2, 16, 256])
def test_equal_exponential_workers_have_the_staleness_of_the_others(p):
    """All others have been there once since, on average: p - 1."""
    visits = moves_of(
        Exponential(1.0), p, 80_000, kinds.VISIT, skip=4 * p, rule=ADD
    )
    agrees([m.staleness for m in visits], p - 1)


@pytest.mark.parametrize("period", [1, 5])
def test_the_staleness_of_equal_workers_is_that_of_any_steps(period):
    """Each has a share of 1 / p of the updates, however they are spread."""
    visits = moves_of(
        LogNormal(1.0, 1.0),
        8,
        40_000 * period,
        kinds.VISIT,
        skip=100,
        rule=ADD,
        period=period,
        merged=True,
    )
    agrees([m.staleness for m in visits], 7)


def test_a_worker_of_another_speed_has_the_staleness_of_its_share():
    """Speeds 1, 1 and 2: who has half of the updates has one between."""
    visits = moves_of(
        Timing(Exponential(1.0), speeds=[1.0, 1.0, 2.0]),
        3,
        80_000,
        kinds.VISIT,
        skip=20,
        rule=ADD,
    )
    for worker, expected in enumerate((3.0, 3.0, 1.0)):
        agrees([m.staleness for m in visits if m.worker == worker], expected)


@pytest.mark.parametrize("p", [1, 4, 16])
def test_a_synchronous_step_lasts_the_expected_maximum(p):
    """Of p exponential ones: the harmonic number."""
    ends = moves_of(
        Exponential(1.0),
        p,
        20_000 * p,
        kinds.COLLECT,
        protocol="synchronous",
    )
    lasted = np.diff([0.0, *(m.time for m in ends)])
    agrees(lasted, sum(1 / k for k in range(1, p + 1)))


@pytest.mark.parametrize(
    ("service", "square"),
    [
        (lambda mean: mean, 1.0),
        (Exponential, 2.0),
        (lambda mean: LogNormal(mean, 0.8), math.exp(0.8**2)),
    ],
    ids=["M/D/1", "M/M/1", "M/G/1"],
)
@pytest.mark.parametrize("load", [0.3, 0.6])
def test_a_queue_waits_as_pollaczek_and_khinchin_say(service, square, load):
    """Many workers that come seldom: their arrivals are Poisson's.

    The mean wait is load / (1 - load) / 2 * E[s^2] / E[s].
    """
    p = 800
    timing = Timing(Exponential(p / load), service=service(1.0))
    made = support.timeline(timing, p, rule=ADD)
    begin, waits = {}, []
    for move in itertools.islice(made.moves(), 400_000):
        if move.kind == kinds.MAKE:
            begin[move.worker] = move.time
        elif move.kind == kinds.ARRIVE:
            waits.append(move.time - begin[move.worker])
    # Who waits does not come: arrivals are fewer, by a share of about 1 / p.
    agrees(np.array(waits[5000:]) - 1.0, load / (1 - load) / 2 * square)


def test_a_center_that_is_always_busy_has_its_own_rate():
    timing = Timing(Exponential(1.0), center_bandwidth=1000.0)
    arrivals = moves_of(
        timing, 64, 40_000, kinds.ARRIVE, rule=ADD, bytes_up=60, bytes_down=40
    )
    gaps = np.diff([m.time for m in arrivals[100:]])
    np.testing.assert_allclose(gaps, 0.1, rtol=1e-6)


def test_littles_law():
    """Workers at the center: how often they come, times how long they stay."""
    p, timing = 10, Timing(Exponential(1.0), service=Exponential(0.08))
    made = support.timeline(timing, p, rule=ADD)
    begin, stays, area, here, last = {}, [], 0.0, 0, 0.0
    for move in itertools.islice(made.moves(), 100_000):
        area += here * (move.time - last)
        last = move.time
        if move.kind == kinds.MAKE:
            begin[move.worker] = move.time
            here += 1
        elif move.kind == kinds.ARRIVE:
            stays.append(move.time - begin.pop(move.worker))
            here -= 1
    assert area == pytest.approx(
        sum(stays) + sum(last - t for t in begin.values())
    )
    # And the machine repairman: the share of the time that nobody is there.
    sizes = [math.perm(p, n) * 0.08**n for n in range(p + 1)]
    rate = (1 - sizes[0] / sum(sizes)) / 0.08
    assert len(stays) / last == pytest.approx(rate, rel=0.02)


def test_an_overlapped_period_hides_what_it_can():
    """A worker's turn is the longer one, of its steps and of its message."""
    for latency, turn in ((0.2, 2.0), (1.5, 3.0)):
        arrivals = moves_of(
            Timing(1.0, latency=latency),
            4,
            4000,
            kinds.ARRIVE,
            skip=8,
            rule=ELASTIC,
            protocol="overlapped",
            period=2,
        )
        own = np.diff([m.time for m in arrivals if m.worker == 0])
        np.testing.assert_allclose(own, turn)
