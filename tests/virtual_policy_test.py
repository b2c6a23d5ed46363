"""Exchanges that a policy decides, by what is seen of the workers."""

import heapq
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tests import virtual_training_support as support
from tests.reference import virtual as reference
from tests.virtual_support import ADD
from tests.virtual_support import ELASTIC
from tests.virtual_support import GRADIENT
from tests.virtual_support import workload
from tests.virtual_training_support import INITIAL
from tests.virtual_training_support import gradient
from tests.virtual_training_support import statistic
from tests.virtual_training_test import SLOW
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.strategies.virtual.turns import first_steps
from tf_elastic.timeline.verify import verify
from tf_elastic.timeline.virtual import Seen
from tf_elastic.timeline.virtual import SkipSmallMoves
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import VirtualTimeline
from tf_elastic.timeline.virtual import moves as kinds

P, TAU, RATE, BETA, SHARE = 3, 2, 0.05, 0.9, 0.9
SPEEDS = (1.0, 0.73, 0.41)
UNEQUAL = Timing(step=1.0, speeds=SPEEDS)


def easgd():
    return optimizers.EASGD(
        RATE, beta=BETA, communication_period=TAU, jit_compile=False
    )


def downpour():
    return optimizers.Downpour(
        RATE, communication_period=TAU, jit_compile=False
    )


class Transcription:
    """Workers of unequal speed whose exchanges take no time, in NumPy.

    EASGD meets the center before a step that is due, DOWNPOUR after it; both
    ask what was seen after the worker's step before.
    """

    def __init__(self, method):
        self.method = method
        self.x = np.tile(INITIAL, (P, 1))
        self.read = self.x.copy()
        self.c = INITIAL.copy()
        self.clock, self.seen, self.last = [0] * P, [None] * P, [None] * P
        self.taken = []  # whether an exchange that was due took place

    def decides(self, i):
        """Who has just come is not asked."""
        if not self.clock[i]:
            return True
        last, now = self.last[i], self.seen[i]
        taken = last is None or now >= SHARE * last
        self.taken.append(taken)
        if taken:
            self.last[i] = now
        return taken

    def step(self, number, i):
        phase = {"easgd": 0, "downpour": TAU - 1}[self.method]
        exchanges = self.clock[i] % TAU == phase and self.decides(i)
        g = gradient(number, self.x[i])
        if exchanges and self.method == "easgd":
            move = BETA / P * (self.x[i] - self.c)
            self.x[i], self.c = self.x[i] - move, self.c + move
        self.x[i] = self.x[i] - RATE * g
        if exchanges and self.method == "downpour":
            self.c = self.c + self.x[i] - self.read[i]
            self.x[i] = self.read[i] = self.c
        self.clock[i] += 1
        self.seen[i] = np.sqrt(np.sum((self.x[i] - self.c) ** 2))

    def run(self, steps):
        """The workers of the steps."""
        due = [(1.0 / speed, i) for i, speed in enumerate(SPEEDS)]
        heapq.heapify(due)
        for number in range(steps):
            time, i = heapq.heappop(due)
            self.step(number, i)
            heapq.heappush(due, (time + 1.0 / SPEEDS[i], i))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("make", [easgd, downpour])
def test_it_equals_a_transcription(make):
    strategy = strategies.VirtualClusterStrategy(
        P, timing=UNEQUAL, policy=SkipSmallMoves(SHARE), protocol="blocking"
    )
    model = support.build(strategy, make)
    expected = Transcription(make.__name__)
    steps = 60
    expected.run(steps)
    assert 5 < sum(expected.taken) < len(expected.taken) - 5
    support.fit(model, steps)
    trained = model.trainable_variables
    support.same(support.center_of(trained), expected.c)
    support.same(support.workers_of(trained), expected.x)
    made, _ = strategy.extended.clock.turns.decisions.state
    # Of what comes before the next step some may be decided already.
    assert made.astype(bool).tolist()[: len(expected.taken)] == expected.taken


class Deciding(support.Beside):
    """Follows the moves, and decides by what is seen of its own cluster."""

    def on_train_begin(self, logs=None):
        self.away, self.last = [None] * P, [None] * P
        self.taken = {}  # by worker and clock, whether it exchanges
        super().on_train_begin(logs)

    def _go_on(self):
        """A step was taken; what comes before the next one was not done."""
        own, step = self.reference, self._next
        if step is not None:
            difference = own.x[step.worker] - own.c
            self.away[step.worker] = np.sqrt(np.sum(difference**2))
        super()._go_on()
        i, clock = self._next.worker, self._next.clock
        if clock % TAU == TAU - 1:
            last, now = self.last[i], self.away[i]
            taken = last is None or now >= SHARE * last
            self.taken[i, clock] = taken
            if taken:
                self.last[i] = now


@pytest.mark.usefixtures("float64")
def test_time_follows_what_is_learned():
    """With delays, messages under way and a queue."""
    strategy = strategies.VirtualClusterStrategy(
        P,
        timing=SLOW,
        protocol="overlapped",
        seed=5,
        policy=SkipSmallMoves(SHARE),
    )
    model = support.build(strategy, easgd)
    cluster = reference.Easgd(gradient, statistic, INITIAL, P, RATE, beta=BETA)
    beside = Deciding(strategy, cluster)
    steps = 120
    support.fit(model, steps, callbacks=[beside])
    assert beside.compared == steps // beside.every
    turns = strategy.extended.clock.turns
    made, stepped = set(), {}
    for move in first_steps(turns.timeline, steps):
        if move.kind == kinds.MAKE:
            made.add((move.worker, move.clock - 1))
        elif move.kind in kinds.STEPS:
            stepped[move.worker] = move.clock
    found = {
        (i, clock): (i, clock) in made
        for i, clock in beside.taken
        if clock < stepped[i]
    }
    assert found == {due: beside.taken[due] for due in found}
    assert 5 < sum(found.values()) < len(found) - 5
    assert strategy.goodput > 0.5


def test_its_events_are_those_of_a_cluster(float64, tmp_path):
    strategy = watched("blocking", SLOW)
    model = support.build(strategy, easgd)
    support.fit(model, 60)
    events = list(strategy.events())
    assert verify(events) == []
    assert [e.to_json() for e in events] == [
        e.to_json() for e in strategy.events()
    ]


def watched(protocol="blocking", timing=UNEQUAL, share=SHARE):
    return strategies.VirtualClusterStrategy(
        P,
        timing=timing,
        protocol=protocol,
        seed=5,
        policy=SkipSmallMoves(share),
    )


@pytest.fixture(scope="module")
def deterministic():
    tf.config.experimental.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


@pytest.mark.usefixtures("deterministic", "float64")
@pytest.mark.parametrize("by", ["weights", "checkpoint"])
def test_it_goes_on_to_the_bit(tmp_path, by):
    """Also where another model has decided otherwise before."""
    first, last = 31, 40

    def new():
        return support.build(watched("overlapped", SLOW), easgd)

    def state(model):
        under_way = model.optimizer._exchange.under_way.values()
        variables = [*model.variables, *model.optimizer.variables]
        natives = [compat.native_variable(v) for v in variables]
        workers = [v.worker_values() for v in natives]
        return [*workers, *(v.numpy() for v in natives), *under_way.values()]

    def same(found, expected):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)

    whole, other = new(), new()
    support.fit(whole, first)
    saved = tf.train.Checkpoint(model=whole, optimizer=whole.optimizer)
    path = saved.save(str(tmp_path / "checkpoint"))
    whole.save_weights(tmp_path / "all.weights.h5")
    middle = state(whole)
    support.fit(whole, last, first)
    support.fit(other, 24, 90)  # with other samples
    if by == "weights":
        other.load_weights(tmp_path / "all.weights.h5")
    else:
        again = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
        again.restore(path).assert_existing_objects_matched()
    same(state(other), middle)
    support.fit(other, last, first)
    same(state(other), state(whole))
    ours, theirs = (m.distribute_strategy for m in (other, whole))
    assert ours.virtual_seconds == theirs.virtual_seconds
    made, _ = theirs.extended.clock.turns.decisions.state
    assert 0 < made.sum() < len(made)


@pytest.mark.usefixtures("float64")
def test_what_is_not_finite_never_reaches_the_center():
    strategy = watched(share=0.0)
    model = support.build(strategy, downpour)
    broken = support.NOISE[:40].copy()
    broken[3] = np.nan
    model.fit(broken, broken[:, 0], batch_size=1, shuffle=False, verbose=0)
    trained = model.trainable_variables
    away = np.isnan(support.workers_of(trained)).any(axis=1)
    assert away.sum() == 1
    assert np.isfinite(support.center_of(trained)).all()


# Without training.


def timeline(policy, load=None, **options):
    load = load or workload(ELASTIC, "blocking", TAU)
    return VirtualTimeline(UNEQUAL, load, P, policy=policy, **options)


def followed(watching, distance, count):
    """So many steps, after each of which a worker has this distance."""
    found = []
    for move in watching.moves():
        if len(found) == count:
            return found
        found.append(move)
        away = distance(move)
        watching.decisions.see(move.worker, move.clock + 1, away)


def test_what_skips_nothing_changes_nothing():
    watching = timeline(SkipSmallMoves(0.0))
    found = followed(watching, lambda move: 1.0, 50)
    assert found == list(itertools.islice(timeline(None).moves(), 50))


def test_a_period_is_stretched():
    """Of distances 8, 7, ..., 1, 8, ... what is below half of the last."""
    watching = timeline(SkipSmallMoves(0.5))
    found = followed(watching, lambda move: 8.0 - move.clock % 8, 100)
    visits = [
        move.clock
        for move in found
        if move.worker == 0 and move.kind == kinds.VISITING_STEP
    ]
    # Seen after the step before: 7, 5, 3, (1), 7, ...
    assert visits[:8] == [0, 2, 4, 6, 10, 12, 14, 18]
    # Another pass gives the same, and so does one by the state alone.
    assert list(itertools.islice(watching.moves(), 100)) == found
    again = timeline(SkipSmallMoves(0.5))
    again.decisions.resume(*watching.decisions.state)
    assert list(itertools.islice(again.moves(), 100)) == found


def test_nothing_is_decided_before_it_is_seen():
    watching = timeline(SkipSmallMoves(0.5))
    with pytest.raises(ValueError, match="not known ahead.*at its step 2"):
        list(itertools.islice(watching.moves(), 20))


@pytest.mark.parametrize(
    ("last", "now", "taken"),
    [
        (None, 0.1, True),
        (1.0, 0.5, True),
        (1.0, 0.49, False),
        (0.0, 0.0, True),
        (None, math.nan, False),
        (1.0, math.inf, False),
    ],
)
def test_small_moves(last, now, taken):
    assert SkipSmallMoves(0.5).exchanges(Seen(0, 4, 1.0, now, last)) is taken


@pytest.mark.parametrize("share", [-0.1, math.nan, math.inf, True, "half"])
def test_a_share_is_not_negative(share):
    with pytest.raises(ValueError, match="`share` must be a finite number"):
        SkipSmallMoves(share)


class Undecided:
    def exchanges(self, seen):
        return None


@pytest.mark.parametrize(
    ("load", "options", "message"),
    [
        (workload(ELASTIC, "synchronous"), {}, "come one by one"),
        (workload(GRADIENT), {}, "a gradient that is not sent is lost"),
        (workload(ADD, takes_steps=True), {}, "does not go with ADMM"),
        (workload(), {"merged": True}, "looks at each step"),
    ],
)
def test_where_there_is_none(load, options, message):
    with pytest.raises(ValueError, match=message):
        timeline(SkipSmallMoves(), load, **options)


def test_what_is_no_policy():
    with pytest.raises(ValueError, match="`policy` must have a method"):
        timeline("small")
    with pytest.raises(ValueError, match="must give True or False"):
        followed(timeline(Undecided()), lambda move: 1.0, 20)
    with pytest.raises(ValueError, match="`policy` needs a `Timing`"):
        strategies.VirtualClusterStrategy(
            2, timing=lambda load, p: None, policy=SkipSmallMoves()
        )
