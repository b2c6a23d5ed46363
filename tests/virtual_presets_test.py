"""Timings by name; those of the thesis against its Table 4.4."""

import functools
import json

import pytest

from tests import virtual_support as support
from tf_elastic.timeline.virtual import PRESETS
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import Totals
from tf_elastic.timeline.virtual import preset

# Table 4.4: seconds of computation, loading and communication, for so many
# mini-batches of each worker, by (tau, p).
CIFAR = {
    (1, 4): (11, 2, 3),
    (1, 8): (11, 2, 5),
    (1, 16): (11, 2, 9),
    (10, 4): (11, 2, 1),
    (10, 8): (11, 2, 1),
    (10, 16): (12, 2, 1),
}
IMAGENET = {
    (1, 4): (1323, 24, 173),
    (1, 8): (1239, 61, 284),
    (10, 4): (1254, 58, 7),
    (10, 8): (1266, 84, 11),
}
STEPS = {"thesis-cifar": 400, "thesis-imagenet": 1024}
BYTES = {"thesis-cifar": 1_408_000, "thesis-imagenet": 233_000_000}
RUNS = 20  # one after another, for the mean


@functools.cache
def seconds(name, tau, p):
    """Of a worker: DOWNPOUR for tau = 1, else EASGD, as in the table."""
    size, by_difference = BYTES[name], tau > 1
    made = support.timeline(
        preset(name),
        p,
        rule=support.ELASTIC if by_difference else support.ADD,
        period=tau,
        bytes_up=size,
        bytes_down=0 if by_difference else size,
        bytes_read=size if by_difference else 0,
        merged=True,
    )
    totals = Totals(made.workload, p)
    steps = RUNS * STEPS[name]
    for move in made.moves():
        totals(move)
        if totals.steps >= p * steps:
            break
    spent = totals.of_all
    return spent.computing / p / RUNS, spent.exchanging / p / RUNS


@pytest.mark.parametrize(("tau", "p"), CIFAR)
def test_cifar_is_as_printed(tau, p):
    """Within 1.1 s of what is computed and loaded, 0.8 s of what is sent."""
    computed, loaded, sent = CIFAR[tau, p]
    found = seconds("thesis-cifar", tau, p)
    assert found[0] == pytest.approx(computed + loaded, abs=1.1)
    assert found[1] == pytest.approx(sent, abs=0.8)


@pytest.mark.parametrize(("tau", "p"), IMAGENET)
def test_imagenet_takes_as_long_as_printed(tau, p):
    """Communication within 2 % of the whole; computation within 5 %."""
    computed, loaded, sent = IMAGENET[tau, p]
    found = seconds("thesis-imagenet", tau, p)
    whole = computed + loaded + sent
    assert found[0] == pytest.approx(computed + loaded, rel=0.05)
    assert found[1] == pytest.approx(sent, abs=0.02 * whole)


@pytest.mark.parametrize("name", ["thesis-cifar", "thesis-imagenet"])
def test_communication_grows_with_the_workers(name):
    some = [seconds(name, 1, p)[1] for p in (4, 8)]
    assert some[1] > 1.15 * some[0]
    assert seconds(name, 10, 8)[1] < 0.2 * some[1]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_timing(name):
    timing = preset(name, step=0.1, num_workers=8)
    timing.check(8)
    assert timing.step == Timing(0.1).step
    assert not timing.is_instant
    config = json.loads(json.dumps(timing.config()))
    assert Timing.from_config(config) == timing


def test_half_of_two_regions_is_far():
    timing = preset("two-regions", step=1.0, num_workers=5)
    far = [timing.of_worker("latency", w).average > 0.01 for w in range(5)]
    assert far == [False, False, False, True, True]


def test_fields_may_be_different():
    timing = preset("thesis-cifar", step=LogNormal(1.0, 0.5), deaths=0.1)
    assert timing.deaths == 0.1
    assert timing.step == LogNormal(1.0, 0.5)
    assert timing.latency == preset("thesis-cifar").latency


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preset("thesis-cifer"), "Did you mean 'thesis-cifar'"),
        (lambda: preset("moon", step=1.0), "There are: 10gbit, 1gbit"),
        (lambda: preset("1gbit"), "needs `step`"),
        (lambda: preset("two-regions", step=1.0), "needs `num_workers`"),
        (lambda: preset("1gbit", step=1.0, latancy=1.0), "mean 'latency'"),
    ],
)
def test_what_is_no_preset_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
