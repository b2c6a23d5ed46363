"""ADMM in a virtual cluster: when a worker reads, and brings its part."""

import numpy as np
import pytest
import tensorflow as tf

from tests import virtual_support as support
from tests import virtual_training_support as training
from tests.virtual_support import first
from tests.virtual_support import told
from tests.virtual_training_support import NOISE
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.core import rules
from tf_elastic.timeline import Event
from tf_elastic.timeline import event as events
from tf_elastic.timeline.verify import verify
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import events_of
from tf_elastic.timeline.virtual import moves as kinds
from tf_elastic.timeline.virtual.in_order import InOrder
from tf_elastic.timeline.virtual.totals import Totals

PARTS = rules.MeanOfParts()
BYTES = {"bytes_up": 20, "bytes_read": 30}
SLOW = Timing(LogNormal(1.0, 0.5), latency=0.1, service=0.05)
BEGINS, ENDS = ("ask", "answer", "settling_step"), ("make", "arrive", "settle")


def timeline(timing, p=3, **options):
    return support.timeline(
        timing, p, rule=PARTS, takes_steps=True, **BYTES, **options
    )


def by(worker, *names):
    return [f"{name} {worker}" for name in names]


# The moves.


def test_each_step_is_a_visit_where_nothing_takes_time():
    moves = first(timeline(1.0, 2), 24)
    assert told(moves[:12]) == [
        *by(0, *BEGINS, *ENDS),
        *by(1, *BEGINS, *ENDS),
    ]
    assert told(moves[:12]) == told(moves[12:])
    assert {m.staleness for m in moves} == {0}


def test_an_overhead_is_of_an_exchange_and_not_of_each_step():
    timing = Timing(1.0, overhead=0.25)
    moves = first(timeline(timing, 1, period=3), 40)
    steps = [m.time for m in moves if m.kind in kinds.STEPS]
    assert steps[:5] == [1.0, 2.0, 3.0, 4.25, 5.25]


def test_a_period_begins_and_ends():
    moves = first(timeline(1.0, 1, period=3), 24)
    steps = by(0, *BEGINS, "step", "step", *ENDS)
    assert told(moves) == steps * 3
    # Of several calls that make a local step the last begins the period.
    moves = first(timeline(1.0, 1, period=4, calls=2), 18)
    assert told(moves) == by(0, "step", *BEGINS, "step", "step", *ENDS) * 2


def test_workers_have_periods_of_their_own():
    moves = first(timeline(1.0, 2, period=4, own_periods=(4, 2)), 200)
    number = [
        sum(m.kind == kinds.ARRIVE and m.worker == w for m in moves)
        for w in (0, 1)
    ]
    assert abs(number[1] - 2 * number[0]) <= 2


def test_it_waits_for_the_center_and_for_its_part():
    timing = Timing(1.0, latency=0.1, bandwidth=1000.0, service=0.01)
    made = timeline(timing, 1)
    moves = first(made, 7)
    read = 1.0 + 0.1 + 0.01
    there = read + 0.1 + 0.03
    # The last byte arrives after the message was served.
    arrives = there + 0.1 + 0.02
    times = [1.0, read, there, there, arrives, arrives + 0.1]
    np.testing.assert_allclose([m.time for m in moves[:6]], times)
    assert moves[6].time == pytest.approx(times[-1] + 1.0)
    totals = Totals(made.workload, 1)
    for move in moves:
        totals(move)
    assert totals.bytes == 50
    seconds = totals.of_worker(0)
    assert seconds.exchanging == pytest.approx(times[-1] - 1.0)
    assert seconds.computing == pytest.approx(2.0)
    assert totals.goodput == 1.0


@pytest.mark.parametrize("period", [1, 4])
def test_no_cluster_could_do_otherwise(period):
    timing = Timing(
        LogNormal(1.0, 0.8),
        latency=0.1,
        deaths=0.01,
        recovery=10.0,
        joins=[(1, 5.0)],
    )
    made = timeline(timing, period=period, max_lag=0.5)
    moves = first(made, 3000)
    support.check(moves, 3)
    seen = {kinds.NAMES[m.kind] for m in moves}
    assert seen >= {"die", "join", *BEGINS, *ENDS}
    assert "drop" not in seen  # A part counts however late it comes.
    totals = Totals(made.workload, 3)
    for move in moves:
        totals(move)
    assert totals.deaths > 5 and 0.9 < totals.goodput <= 1.0
    assert sum(totals.of_all) == pytest.approx(3 * totals.seconds, rel=0.01)


def test_what_is_stale_cannot_be_left_out():
    with pytest.raises(ValueError, match="counts however old"):
        timeline(1.0, max_staleness=3)


@pytest.mark.parametrize("period", [1, 3])
def test_in_order_it_is_the_same(period):
    made = timeline(1.0, period=period)
    ours = [m for m in first(made, 300) if m.kind not in (kinds.ASK,)]
    ours = [m for m in ours if m.kind != kinds.SETTLE]
    in_order = InOrder(made.workload, 3, "round_robin").moves()
    for ours_, theirs in zip(ours, in_order, strict=False):
        assert ours_ == theirs


@pytest.mark.parametrize("timing", [Timing(1.0), SLOW])
@pytest.mark.parametrize("period", [1, 4])
def test_its_log_can_have_been_so(timing, period):
    made = timeline(timing, period=period)
    moves = first(made, 600)
    log = list(events_of(made, moves))
    assert [str(violation) for violation in verify(log)] == []
    for event in log:
        assert Event.from_json(event.to_json()) == event
    applied = [e for e in log if e.kind == events.EXCHANGE]
    arrived = [m for m in moves if m.kind == kinds.ARRIVE]
    assert [e.staleness for e in applied] == [m.staleness for m in arrived]
    assert {e.call for e in applied} == {events.PUSH}
    waits = [e.seconds for e in log if e.kind == events.WAIT]
    assert bool(waits) == (timing is SLOW)
    if waits:
        assert min(waits) > 0.2 and np.mean(waits) < 0.5


# Training.


def admm(tau):
    return lambda: optimizers.ADMM(
        0.1, communication_period=tau, jit_compile=False
    )


def all_of(model):
    """Center and workers, of the model and of all that ADMM keeps."""
    variables = [*model.trainable_variables, *model.optimizer.variables[2:]]
    return [
        training.center_of(model.variables),
        *(training.workers_of([variable]) for variable in variables),
    ]


@pytest.mark.parametrize("timing", [None, SLOW])
def test_a_checkpoint_goes_on_in_the_midst_of_all(float64, timing, tmp_path):
    whole, again = (
        training.build(
            strategies.VirtualClusterStrategy(3, timing=timing), admm(3)
        )
        for _ in range(2)
    )
    training.fit(whole, 31)
    path = tf.train.Checkpoint(model=whole).save(tmp_path / "model")
    training.fit(whole, 40, first=31)
    tf.train.Checkpoint(model=again).restore(path)
    training.fit(again, 40, first=31)
    for expected, found in zip(all_of(whole), all_of(again), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_a_step_trains_some_of_the_variables(float64):
    """Each second step one of the two; as devices do it."""
    p, models = 2, []
    for options in (
        {"devices": [f"CPU:{i}" for i in range(p)]},
        {"devices": ["CPU:0"], "workers_per_device": p},
    ):
        strategy = strategies.ElasticMirroredStrategy(**options)
        model = training.build(strategy, admm(1))
        run = step_of(model)
        for step in range(6):
            rows = NOISE[step * p : (step + 1) * p]
            for x in [rows] if len(options) == 1 else np.split(rows, p):
                run(x, step % 2)
        models.append(model)
    devices, bank = models
    for read in (training.center_of, training.workers_of):
        training.same(
            read(bank.trainable_variables), read(devices.trainable_variables)
        )


def step_of(model):
    """Takes a step of the model by rows, one for each replica."""
    strategy = model.distribute_strategy

    @tf.function
    def steps(x, k):
        def replica(row):
            variables = [model.trainable_variables[k]]
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(row, training=True))
                loss /= strategy.num_replicas_in_sync  # as Keras does
            model.optimizer.apply(tape.gradient(loss, variables), variables)

        strategy.run(replica, args=(x,))

    def run(rows, k):
        x = strategy.experimental_distribute_values_from_function(
            lambda context: rows[[context.replica_id_in_sync_group]]
        )
        steps(x, k)

    return run
