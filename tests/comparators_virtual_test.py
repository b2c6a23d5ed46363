"""The comparators in a virtual cluster, where what is late is left out.

Under stock `fit`, in float64, against the papers' pseudo-code with the order
in which the timeline has the gradients arrive.
"""

import itertools

import numpy as np
import pytest

from tests import quadratic_support as quadratic
from tests import reference
from tests.quadratic_support import INITIAL
from tests.quadratic_support import gradient
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import VirtualTimeline
from tf_elastic.timeline.virtual import moves as kinds

P, STEPS = 4, 60
# No two workers are equally fast, so that what is late is so by itself.
UNEVEN = Timing(step=(1.0, 1.13, 1.71, 5.03))

pytestmark = pytest.mark.usefixtures("float64")


def trained(make, protocol="blocking", match_speeds=False, **options):
    """A model after `STEPS` local steps of all, and whose they were."""
    made = []

    def timeline(workload, p):
        if match_speeds:
            workload = workload.matched(UNEVEN.steps_a_second(p))
        made.append(VirtualTimeline(UNEVEN, workload, p, **options))
        return made[0]

    strategy = strategies.VirtualClusterStrategy(
        P, timing=timeline, protocol=protocol
    )
    with strategy.scope():
        model = quadratic.build(make)
        model.optimizer.build(model.trainable_variables)
    of_steps = (m for m in made[0].moves() if m.kind in kinds.STEPS)
    steps = [(m.worker, m.clock) for m in itertools.islice(of_steps, STEPS)]
    x, y = quadratic.samples(range(P))
    rows = [clock * P + worker for worker, clock in steps]
    model.fit(x[rows], y[rows], batch_size=1, shuffle=False, verbose=0)
    return model, [worker for worker, _ in steps], strategy


def assert_center(model, expected):
    """As the last step has left it."""
    found = np.concatenate(model.get_weights())
    error = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
    assert error < 1e-10


def settings(schedule):
    return {
        "num_workers": P,
        "learning_rate": 0.05,
        "schedule": schedule,
    }


@pytest.mark.parametrize(
    "threshold",
    [2, *(pytest.param(r, marks=pytest.mark.full) for r in (4, None))],
)
def test_ringmaster_ignores_what_is_late(threshold):
    model, schedule, strategy = trained(
        lambda: optimizers.AsyncMSGD(0.05, momentum=0.0, jit_compile=False),
        max_staleness=threshold,
    )
    expected = reference.ringmaster(
        gradient,
        INITIAL,
        threshold=threshold or np.inf,
        **settings(schedule),
    )
    assert bool(expected["dropped"].any()) == (threshold is not None)
    assert_center(model, expected["center"][-1])
    taken = expected["staleness"][1:][expected["dropped"][1:] == 0]
    np.testing.assert_array_equal(
        strategy.staleness(), np.bincount(taken.astype(int))
    )


@pytest.mark.parametrize(
    "first", [3, *(pytest.param(m, marks=pytest.mark.full) for m in (P, 1))]
)
def test_synchronous_sgd_with_the_fastest(first):
    model, schedule, _ = trained(
        lambda: optimizers.SyncSGD(0.05, momentum=0.5, jit_compile=False),
        protocol="synchronous",
        quorum=first,
    )
    expected = reference.sync_sgd(
        gradient,
        INITIAL,
        first=first,
        momentum=0.5,
        stops=True,
        **settings(schedule),
    )
    assert set(schedule) == set(range(first))
    assert_center(model, expected["center"][-1])


@pytest.mark.parametrize(
    "protocol",
    ["blocking", pytest.param("overlapped", marks=pytest.mark.full)],
)
@pytest.mark.parametrize(
    ("make", "method", "options"),
    [
        (
            optimizers.AsyncDiLoCo,
            reference.async_diloco,
            {"momentum_activation": 0.1},
        ),
        (
            optimizers.HeLoCo,
            reference.heloco,
            {},
        ),
    ],
    ids=["async_diloco", "heloco"],
)
def test_diloco_whose_workers_do_not_wait(make, method, options, protocol):
    model, schedule, _ = trained(
        lambda: make(
            quadratic.keras.optimizers.SGD(0.05),
            communication_period=3,
            jit_compile=False,
            **options,
        ),
        protocol,
    )
    blocks = [slice(0, quadratic.SPLIT), slice(quadratic.SPLIT, None)]
    if method is reference.heloco:
        options = {"blocks": blocks}
    expected = method(
        gradient,
        INITIAL,
        communication_period=3,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        together=True,
        overlapped=protocol == "overlapped",
        **options,
        **settings(schedule),
    )
    assert_center(model, expected["center"][-1])


def test_local_steps_follow_the_speeds():
    """Dynamic local updates."""
    model, schedule, _ = trained(
        lambda: optimizers.AsyncDiLoCo(
            quadratic.keras.optimizers.SGD(0.05),
            communication_period=3,
            jit_compile=False,
        ),
        match_speeds=True,
    )
    expected = reference.async_diloco(
        gradient,
        INITIAL,
        communication_period=(3, 2, 1, 1),
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        together=True,
        **settings(schedule),
    )
    assert_center(model, expected["center"][-1])


def test_speeds_are_of_a_timing():
    with pytest.raises(ValueError, match="`match_speeds` needs a `Timing`"):
        strategies.VirtualClusterStrategy(
            2, timing=lambda workload, p: None, match_speeds=True
        )
    strategies.VirtualClusterStrategy(2, match_speeds=True)
