"""`VirtualClusterStrategy` against moves that are written out by hand."""

import keras
import pytest

from tests import virtual_training_support as support
from tests.reference import virtual as reference
from tests.virtual_training_support import INITIAL
from tests.virtual_training_support import gradient
from tests.virtual_training_support import statistic
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Losses
from tf_elastic.timeline.virtual import Pauses
from tf_elastic.timeline.virtual import Stragglers
from tf_elastic.timeline.virtual import Timing

pytestmark = pytest.mark.usefixtures("float64")
STEPS, P, RATE, BETA = 150, 4, 0.05, 0.9


def decay(clock):
    return 0.1 / (1 + 0.2 * clock)


class Decay(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return decay(keras.ops.cast(step, "float64"))


INSTANT = Timing(LogNormal(1.0, 0.6), stragglers=Stragglers(0.1, 4.0))
SLOW = Timing(
    LogNormal(1.0, 0.6),
    stragglers=Stragglers(0.1, 4.0),
    latency=LogNormal(0.3, 0.5),
    bandwidth=400.0,
    center_bandwidth=2000.0,
    service=0.02,
    losses=Losses(0.1, 0.3),
)
FAULTY = Timing(
    LogNormal(1.0, 0.6),
    stragglers=Stragglers(0.1, 4.0),
    latency=LogNormal(0.3, 0.5),
    service=0.02,
    losses=Losses(0.1, 0.3),
    pauses=Pauses(0.05, 3.0),
    deaths=0.02,
    recovery=LogNormal(4.0, 0.3),
    joins=[(1, 7.0)],
)
TIMINGS = {"instant": INSTANT, "slow": SLOW, "faulty": FAULTY}


# The optimizer, its reference, and what both are made with.
def easgd(tau):
    return (
        lambda: optimizers.EASGD(
            Decay(), beta=BETA, communication_period=tau, jit_compile=False
        ),
        lambda *args: reference.Easgd(*args, decay, beta=BETA),
    )


def eamsgd(tau, nesterov=True):
    return (
        lambda: optimizers.EAMSGD(
            RATE,
            momentum=0.8,
            nesterov=nesterov,
            beta=BETA,
            communication_period=tau,
            jit_compile=False,
        ),
        lambda *args: reference.Easgd(
            *args, RATE, beta=BETA, momentum=0.8, nesterov=nesterov
        ),
    )


def downpour(tau, overlapped=False):
    return (
        lambda: optimizers.Downpour(
            Decay(), communication_period=tau, jit_compile=False
        ),
        lambda *args: reference.Downpour(*args, decay, overlapped=overlapped),
    )


def async_msgd():
    return (
        lambda: optimizers.AsyncMSGD(
            Decay(),
            momentum=0.3,
            delay_compensation=0.1,
            staleness_scaling=True,
            jit_compile=False,
        ),
        lambda *args: reference.AsyncMsgd(
            *args,
            decay,
            center_momentum=0.3,
            compensation=0.1,
            by_staleness=True,
        ),
    )


def mdownpour():
    return (
        lambda: optimizers.MDownpour(RATE, momentum=0.5, jit_compile=False),
        lambda *args: reference.Mdownpour(*args, RATE, center_momentum=0.5),
    )


def local_sgd(tau):
    return (
        lambda: optimizers.LocalSGD(
            keras.optimizers.SGD(RATE),
            communication_period=tau,
            jit_compile=False,
        ),
        lambda *args: reference.LocalSgd(*args, RATE),
    )


def diloco(tau):
    return (
        lambda: optimizers.DiLoCo(
            keras.optimizers.SGD(RATE),
            outer_learning_rate=0.7,
            outer_momentum=0.5,
            communication_period=tau,
            jit_compile=False,
        ),
        lambda *args: reference.DiLoCo(
            *args, RATE, outer_learning_rate=0.7, outer_momentum=0.5
        ),
    )


def admm(tau):
    return (
        lambda: optimizers.ADMM(
            Decay(),
            elasticity=0.5,
            communication_period=tau,
            jit_compile=False,
        ),
        lambda *args: reference.Admm(*args, decay, elasticity=0.5),
    )


def sync_sgd():
    return (
        lambda: optimizers.SyncSGD(Decay(), momentum=0.5, jit_compile=False),
        lambda *args: reference.SyncSgd(*args, decay, center_momentum=0.5),
    )


def trained_beside(timing, protocol, methods, p=P, **options):
    make_optimizer, make_reference = methods
    strategy = strategies.VirtualClusterStrategy(
        p, timing=timing, protocol=protocol, seed=3, **options
    )
    model = support.build(strategy, make_optimizer)
    beside = support.Beside(
        strategy, make_reference(gradient, statistic, INITIAL, p)
    )
    support.fit(model, STEPS, callbacks=[beside])
    assert beside.compared == STEPS // beside.every
    return beside


CASES = [
    ("easgd", easgd(2), "blocking"),
    ("easgd", easgd(2), "overlapped"),
    ("easgd", easgd(2), "synchronous"),
    ("eamsgd", eamsgd(3), "blocking"),
    ("eamsgd", eamsgd(3), "overlapped"),
    ("eamsgd", eamsgd(3), "synchronous"),
    ("heavy_ball", eamsgd(2, nesterov=False), "blocking"),
    ("downpour", downpour(2), "blocking"),
    ("downpour", downpour(2, overlapped=True), "overlapped"),
    ("downpour", downpour(2), "synchronous"),
    ("async_msgd", async_msgd(), "blocking"),
    ("async_msgd", async_msgd(), "overlapped"),
    ("mdownpour", mdownpour(), "overlapped"),
    ("local_sgd", local_sgd(2), "synchronous"),
    ("diloco", diloco(2), "synchronous"),
    ("sync_sgd", sync_sgd(), "synchronous"),
]
# Where nothing takes time a blocking exchange is a move of its own, and
# where p is fixed its rates are constants. All else is in "faulty".
IN_MAKE_TEST = {
    "easgd-overlapped-faulty",
    "easgd-synchronous-slow",
    "eamsgd-blocking-instant",
    "eamsgd-blocking-faulty",
    "eamsgd-overlapped-slow",
    "eamsgd-synchronous-faulty",
    "heavy_ball-blocking-slow",
    "downpour-blocking-instant",
    "downpour-blocking-faulty",
    "downpour-overlapped-faulty",
    "downpour-synchronous-faulty",
    "async_msgd-blocking-slow",
    "async_msgd-blocking-instant",
    "async_msgd-overlapped-faulty",
    "mdownpour-overlapped-slow",
    "local_sgd-synchronous-faulty",
    "diloco-synchronous-slow",
    "sync_sgd-synchronous-faulty",
}


def cases():
    for name, methods, protocol in CASES:
        for timing in TIMINGS:
            full = f"{name}-{protocol}-{timing}"
            tier = [] if full in IN_MAKE_TEST else [pytest.mark.full]
            yield pytest.param(timing, protocol, methods, id=full, marks=tier)


@pytest.mark.parametrize(("timing", "protocol", "methods"), list(cases()))
def test_every_move_is_the_hand_written_one(timing, protocol, methods):
    options = {}
    if timing == "faulty" and protocol != "synchronous":
        options = {"max_lag": 2.0, "max_staleness": 9}
    beside = trained_beside(TIMINGS[timing], protocol, methods, **options)
    if timing == "faulty":
        assert beside.seen >= {"die", "join"}
    if options:
        assert beside.seen >= {"drop"}


@pytest.mark.parametrize(
    "methods",
    [eamsgd(2), local_sgd(2), sync_sgd()],
    ids=["eamsgd", "local_sgd", "sync_sgd"],
)
def test_the_fastest_of_a_round(methods):
    """A quorum: a mean is of those who have come, the others begin again."""
    beside = trained_beside(SLOW, "synchronous", methods, p=3, quorum=2)
    assert beside.seen >= {"collect", "restart", "drop"}


@pytest.mark.parametrize(
    ("timing", "tau"),
    [
        ("instant", 1),
        ("faulty", 1),
        ("faulty", 3),
        *(
            pytest.param(*case, marks=pytest.mark.full)
            for case in (("instant", 3), ("slow", 1), ("slow", 3))
        ),
    ],
)
def test_steps_that_are_a_part_of_the_exchange(timing, tau):
    """A part of ADMM's center counts however late it comes."""
    beside = trained_beside(TIMINGS[timing], None, admm(tau), max_lag=2.0)
    assert beside.seen >= {"ask", "answer", "settling_step", "arrive"}
    assert ("step" in beside.seen) == (tau > 1)
    assert "drop" not in beside.seen
    if timing == "faulty":
        assert beside.seen >= {"die", "join"}
