"""One shard without a network, under a clock that the test moves."""

import concurrent.futures

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import cluster_support as support
from tests.drawing import examples
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.core import rules

LEASE_S = 15.0
GRACE_S = 1.0
LAYOUT = layout.Layout(support.VARIABLES, 1)
HALF = support.push_rate(0.5, 1)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


class Center:
    """A shard with its clock, filled by worker 0 unless `empty`."""

    def __init__(self, start=0.0, empty=False, expected=1):
        self.clock = Clock()
        self.node = support.new_node(0, 1, LEASE_S, GRACE_S, now=self.clock)
        self.expected = expected
        if not empty:
            self.join(0)
            self.node.offer(0, 1, -1, True)
            self.clock.seconds += GRACE_S
            assert self.node.offer(0, 1, -1, True)["upload"]
            self.node.initialize(0, 1, -1, support.values(start))

    def join(self, worker, incarnation=1, process=None, previous=0):
        return self.node.join(
            worker,
            incarnation,
            self.expected,
            LAYOUT.describe(),
            process or f"{worker}/{incarnation}",
            previous,
        )

    def pass_time(self, seconds, alive=()):
        """Time passes, and the server ticks, as long as it runs."""
        for _ in range(round(seconds)):
            self.clock.seconds += 1
            for worker in alive:
                self.heartbeat(worker)
            self.node.tick()

    def heartbeat(self, worker, incarnation=1, samples=0):
        return self.node.heartbeat(worker, incarnation, 0, samples, {})

    def push(self, worker, sequence, value=1.0, incarnation=1, rate=HALF):
        push_id = PushId(worker, incarnation, sequence, self.node.version)
        return self.node.exchanges.push(push_id, support.values(value), rate)

    def bits(self):
        return [array.tobytes() for array in self.node.arrays]


@pytest.fixture
def center():
    return Center()


# Leases.


def test_a_silent_worker_loses_its_slot_and_p_follows(center):
    center.join(1)
    assert center.heartbeat(0)["num_workers"] == 2
    center.pass_time(LEASE_S - 1, alive=[0])
    assert center.heartbeat(0)["num_workers"] == 2
    center.pass_time(3, alive=[0])
    assert center.heartbeat(0)["num_workers"] == 1
    before = center.bits()
    with pytest.raises(errors.LostSlotError, match="worker 1 .* 15 s"):
        center.push(1, 1)
    assert center.bits() == before
    center.join(1, 2)
    assert center.push(1, 1, incarnation=2)["num_workers"] == 2


def test_whoever_speaks_keeps_its_slot(center):
    center.join(1)
    center.pass_time(10 * LEASE_S, alive=[0, 1])
    assert center.node.registry.present == [0, 1]


def test_leases_do_not_run_out_while_the_server_is_stopped(center):
    center.join(1)
    center.clock.seconds += 20 * LEASE_S  # No tick: SIGSTOP, or a laptop's lid.
    center.node.tick()
    assert center.node.registry.present == [0, 1]
    center.pass_time(LEASE_S + 2, alive=[0])
    assert center.node.registry.present == [0]


def test_a_stopped_servers_leases_are_no_longer_than_others(center):
    center.clock.seconds += 20 * LEASE_S
    center.heartbeat(0)  # Before the first tick after the stop.
    center.node.tick()
    center.pass_time(LEASE_S + 2)
    assert center.node.registry.present == []


def test_workers_still_expected_count_for_two_minutes():
    center = Center(expected=3)
    assert center.heartbeat(0)["num_workers"] == 3
    center.join(1)
    center.pass_time(100, alive=[0, 1])
    assert center.heartbeat(0)["num_workers"] == 3
    center.pass_time(30, alive=[0, 1])
    assert center.heartbeat(0)["num_workers"] == 2


def test_leaving_gives_the_slot_back_at_once(center):
    center.join(1)
    assert center.node.leave(1, 1)["num_workers"] == 1
    with pytest.raises(errors.LostSlotError):
        center.push(1, 1)


def test_whoever_has_finished_still_counts_in_p(center):
    center.join(1)
    assert center.node.leave(1, 1, finished=True)["num_workers"] == 2
    # But nobody waits for it, and it may come again.
    center.node.exchanges.deposit(PushId(0, 1, 1, 0), support.values(1.0), HALF)
    assert center.node.version == 1
    assert center.join(1, 2)["num_workers"] == 2


@pytest.mark.parametrize("killed", [1, 3])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_p_is_of_the_run_that_goes_on(killed, order):
    """The run before had four workers, of which one was killed."""
    center = Center(expected=4)
    for worker in (1, 2, 3):
        center.join(worker)
    others = [worker for worker in range(4) if worker != killed]
    center.pass_time(LEASE_S + 2, alive=others)
    for worker in others:
        center.node.leave(worker, 1, finished=True)
    assert center.node.hello(0)["num_workers"] == 3
    state, arrays = center.node.snapshot()
    again = Center(empty=True, expected=2)
    again.node.restore(state, arrays)
    for worker in order:
        again.join(worker, 2)
    assert again.node.hello(0)["num_workers"] == 2
    again.node.leave(0, 2, finished=True)
    assert again.node.hello(0)["num_workers"] == 2


def test_a_killed_ones_lease_does_not_count_for_good():
    """The whole cluster was killed, and fewer go on."""
    center = Center(expected=3)
    for worker in (1, 2):
        center.join(worker)
    state, arrays = center.node.snapshot()
    again = Center(empty=True, expected=2)
    again.node.restore(state, arrays)
    again.join(0, 2)
    again.join(1, 2)
    for _ in range(round(LEASE_S) + 2):
        again.clock.seconds += 1
        for worker in (0, 1):
            again.heartbeat(worker, 2)
        again.node.tick()
    assert again.node.hello(0)["num_workers"] == 2


def test_a_lease_that_ends_ends_a_round_that_waited_for_it(center):
    center.join(1)
    center.node.exchanges.deposit(PushId(0, 1, 1, 0), support.values(1.0), HALF)
    assert center.node.version == 0
    center.pass_time(LEASE_S + 2, alive=[0])
    assert center.node.version == 1


# Who is who.


def test_a_late_push_of_a_replaced_incarnation_is_refused(center):
    center.push(0, 1)
    center.join(0, 2)
    before = center.bits()
    for late in (2, 99):
        with pytest.raises(errors.ReplacedError, match="incarnation 2 has"):
            center.push(0, late)
    assert center.bits() == before
    status = center.node.status()["members"]["0"]
    assert status["refused"] == 2
    center.push(0, 1, incarnation=2)


def test_a_replaced_process_does_not_take_its_place_back(center):
    center.join(0, 2, process="newer")
    with pytest.raises(errors.ReplacedError):
        center.join(0, 3, process="0/1", previous=1)
    center.push(0, 1, incarnation=2)


def test_a_process_may_take_another_life(center):
    center.join(0, 2, process="0/1", previous=1)
    center.join(0, 3, process="0/1", previous=2)
    with pytest.raises(errors.ReplacedError):
        center.join(0, 3, process="0/1", previous=3)


def test_an_incarnation_that_the_center_forgot_has_to_join(center):
    with pytest.raises(errors.UnknownWorkerError):
        center.push(0, 1, incarnation=2)
    with pytest.raises(errors.UnknownWorkerError):
        center.push(1, 1)


def test_samples_of_a_process_count_once(center):
    center.heartbeat(0, samples=100)
    assert center.node.hello(0)["total_samples"] == 100
    center.join(0, 2, process="0/1", previous=1)
    center.heartbeat(0, 2, samples=110)  # Of the same process.
    assert center.node.hello(0)["total_samples"] == 110
    center.join(0, 3, process="another")
    center.heartbeat(0, 3, samples=7)
    assert center.node.hello(0)["total_samples"] == 117


# Who has the token, and is wrong.


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("variables", [["a", "b"]]),
        ("variables", [["w", [2], "object", "parameters"]]),
        ("variables", [["w", [-2], "float32", "parameters"]]),
        ("variables", [["w", [2**41], "float32", "parameters"]]),
        ("variables", [["w", [2**20, 2**21], "float32", "parameters"]]),
        ("variables", [["w", [2], "float32", "secrets"]]),
        ("variables", None),
        ("rule", {"method": "heavy_ball", "adjustment": float("nan")}),
        ("rule", {"method": "heavy_ball", "more": 1}),
        ("rule", "heavy_ball"),
    ],
)
def test_a_malformed_description_locks_nobody_out(part, wrong):
    center = Center(empty=True)
    description = {**LAYOUT.describe(), part: wrong}
    with pytest.raises(errors.MessageError, match="must|may|No rule"):
        center.node.join(1, 1, 1, description, "process")
    assert center.node.state.description is None
    center.join(0)
    assert center.node.state.description == LAYOUT.describe()


def test_another_model_stays_as_long_as_its_worker():
    center = Center(empty=True)
    other = layout.Layout(support.VARIABLES[:1], 1).describe()
    center.node.join(1, 1, 1, other, "process")
    with pytest.raises(errors.CenterRefusedError, match="has 1 variables"):
        center.join(0)
    center.node.join(1, 2, 1, other, "process", 1)
    center.pass_time(LEASE_S + 2)
    center.join(0)
    with pytest.raises(errors.CenterRefusedError, match="has 4 variables"):
        center.node.join(1, 3, 1, other, "another")
    center.node.leave(0, 1)
    center.node.join(1, 3, 1, other, "another")
    assert center.node.state.description == other


@pytest.mark.parametrize("call", ["push", "exchange", "deposit", "take"])
def test_numbers_that_are_too_large_together(call, caplog):
    """Each is finite, and so is what was there; the sum would not be."""
    huge = 1.7e308
    if call == "take":
        center = Center(empty=True)
        rule = rules.TimeAverage(rules.HeavyBall())
        made = layout.Layout(support.VARIABLES, 1, rule)
        center.node.join(0, 1, 1, made.describe(), "process")
        center.node.election.accepted = 0
        center.node.initialize(0, 1, 0, support.values(huge))
        rate = {"learning_rate": 1.0, "momentum": 0.0, "num_workers": 1}
    else:
        center, rate = Center(huge), support.push_rate(2.0, 1)
    before = center.bits(), center.node.snapshot()[1]
    push_id = PushId(0, 1, 1, 0)
    sent = support.values(-huge if call == "take" else -0.05e308)
    if call == "deposit":
        center.node.exchanges.deposit(push_id, sent, support.push_rate(2.0, 1))
        assert "would make it infinite" in caplog.text
        assert center.node.version == 1  # The round is over.
    else:
        with pytest.raises(errors.NonFiniteError, match="make it infinite"):
            if call == "push":
                center.node.exchanges.push(push_id, support.values(huge), rate)
            elif call == "exchange":
                rate = support.push_rate(2.0, 1)
                center.node.exchanges.exchange(push_id, sent, rate)
            else:
                center.node.exchanges.take(push_id, sent, rate)
        assert center.node.version == 0
    assert center.bits() == before[0]
    for array, kept in zip(center.node.snapshot()[1], before[1], strict=True):
        assert array.tobytes() == kept.tobytes()
    # It goes on.
    news = center.heartbeat(0)
    assert news["ready"]


def test_numbers_may_be_as_large_as_they_can(center):
    """It does not refuse what is finite after all, however near the limit."""
    sent = [0.8e308, 0.8e308, -1e308, 3.0, 1e-300]
    expected = 0.0
    for sequence, value in enumerate(sent, 1):
        center.push(0, sequence, value, rate=support.push_rate(1.0, 1))
        expected += value
        assert (center.node.arrays[0] == expected).all()


def test_a_center_takes_so_many_workers():
    center = Center()
    center.node.registry.max_workers = 3
    center.join(1)
    center.push(1, 1)
    center.join(2)
    for worker, expected in ((3, 1), (0, 4)):
        with pytest.raises(errors.CenterRefusedError, match="max_workers"):
            center.node.join(worker, 2, expected, LAYOUT.describe(), "process")
    center.node.leave(1, 1)  # It has given something, and may come again.
    with pytest.raises(errors.CenterRefusedError, match="3 have joined"):
        center.join(3)
    center.node.leave(2, 1)
    center.join(3)
    assert sorted(center.node.registry.members) == [0, 1, 3]


def test_a_worker_waits_a_few_times_at_once(center):
    center.join(1)
    center.node.exchanges.deposit(PushId(0, 1, 1, 0), support.values(1.0), HALF)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        waiting = [
            threads.submit(center.node.exchanges.release, 0, 1, 0, 20.0, False)
            for _ in range(4)
        ]
        support.until(lambda: center.node.rounds.waiting[0] == 4)
        with pytest.raises(errors.MessageError, match="one more of worker 0"):
            center.node.exchanges.release(0, 1, 0, 20.0, False)
        last = PushId(1, 1, 1, 0)
        center.node.exchanges.deposit(last, support.values(1.0), HALF)
        assert all(f.result(60)["round"] == 1 for f in waiting)
    assert center.node.rounds.waiting[0] == 0


def test_nobody_uses_up_the_lives(center):
    with pytest.raises(errors.MessageError, match="at most 1000001"):
        center.join(0, 1_000_002)
    center.join(0, 1_000_001)
    center.join(0, 2_000_001)


# Offers.


def offer(center, worker, version_seen, is_chief=False):
    return center.node.offer(worker, 1, version_seen, is_chief)["upload"]


def test_the_chief_begins_a_new_center():
    center = Center(empty=True)
    for worker in (0, 1, 2):
        center.join(worker)
    assert not offer(center, 0, -1)
    center.clock.seconds += 10 * GRACE_S
    assert not offer(center, 0, -1)
    assert not offer(center, 1, -1)
    assert offer(center, 2, -1, is_chief=True)
    assert not offer(center, 0, -1)
    # Nobody else's are taken.
    center.node.initialize(0, 1, -1, support.values(5.0))
    assert not center.node.hello(0)["ready"]
    center.node.initialize(2, 1, -1, support.values(7.0))
    assert center.node.hello(0)["version"] == 0
    assert center.node.arrays[0][0] == 7.0


def test_the_freshest_worker_fills_a_center_without_memory():
    center = Center(empty=True)
    for worker, version in ((0, 40), (1, 42), (2, 42)):
        center.join(worker)
        assert not offer(center, worker, version, is_chief=worker == 0)
    center.clock.seconds += GRACE_S
    assert not offer(center, 0, 40, is_chief=True)
    assert not offer(center, 2, 42)
    assert offer(center, 1, 42)
    center.node.initialize(1, 1, 42, support.values(3.0))
    assert center.node.hello(0)["version"] == 42


def test_an_upload_that_never_comes_passes_to_the_next():
    center = Center(empty=True)
    for worker, version in ((0, 40), (1, 42)):
        center.join(worker)
        offer(center, worker, version)
    center.clock.seconds += GRACE_S
    assert offer(center, 1, 42)  # And then it dies.
    center.clock.seconds += 30
    assert not offer(center, 0, 40)
    center.clock.seconds += 31
    assert offer(center, 0, 40)


def test_the_offer_of_a_worker_that_is_gone_is_withdrawn():
    center = Center(empty=True)
    for worker, version in ((0, 40), (1, 42)):
        center.join(worker)
        offer(center, worker, version)
    center.clock.seconds += GRACE_S
    assert offer(center, 1, 42)  # And then it dies.
    center.pass_time(LEASE_S + 2, alive=[0])
    assert offer(center, 0, 40)


def test_nothing_is_read_of_an_empty_center():
    center = Center(empty=True)
    center.join(0)
    with pytest.raises(errors.CenterEmptyError):
        center.node.exchanges.read()
    with pytest.raises(errors.CenterEmptyError):
        center.push(0, 1)
    assert center.node.snapshot() is None


# At most once.


def test_a_push_is_applied_once(center):
    center.push(0, 5)
    before = center.bits(), center.node.version
    for sequence in (5, 4, 1):
        with pytest.raises(errors.DuplicatePushError, match="worker 0"):
            center.push(0, sequence)
        with pytest.raises(errors.DuplicatePushError):
            center.node.exchanges.exchange(
                PushId(0, 1, sequence, 0), support.values(1.0), HALF
            )
        with pytest.raises(errors.DuplicatePushError):
            center.node.exchanges.deposit(
                PushId(0, 1, sequence, 0), support.values(1.0), HALF
            )
    assert (center.bits(), center.node.version) == before


steps = st.lists(
    st.tuples(
        st.integers(0, 2),  # worker
        st.sampled_from(["push", "exchange", "again", "late", "join", "stale"]),
        st.integers(-4, 4),  # what is sent, in eighths: sums are exact
    ),
    max_size=40,
)


@examples(60)
@given(steps)
def test_the_center_is_its_start_and_what_was_applied(plan):
    center = Center(start=2.0)
    incarnation, sequence = {0: 1}, {0: 0}
    expected, applied = 2.0, 0
    for worker, what, eighths in plan:
        value = eighths / 8
        if worker not in incarnation or what == "join":
            incarnation[worker] = incarnation.get(worker, 0) + 1
            sequence[worker] = 0
            center.join(worker, incarnation[worker])
            continue
        now = incarnation[worker]
        if what == "push":
            sequence[worker] += 1
            center.push(worker, sequence[worker], value, now)
            expected += 0.5 * value
            applied += 1
        elif what == "exchange":
            sequence[worker] += 3  # Some were lost on the way.
            _, moved = center.node.exchanges.exchange(
                PushId(worker, now, sequence[worker], 0),
                support.values(expected + value),
                HALF,
            )
            assert moved[0][0] == value
            expected += 0.5 * value
            applied += 1
        elif what == "again":
            with pytest.raises(errors.DuplicatePushError):
                center.push(worker, sequence[worker], value, now)
        elif what == "late":
            with pytest.raises(errors.ReplacedError):
                center.push(worker, sequence[worker] + 1, value, now - 1)
        else:
            with pytest.raises(errors.UnknownWorkerError):
                center.push(worker, 1, value, now + 1)
        np.testing.assert_array_equal(
            center.node.arrays[0], np.full(support.N, expected)
        )
    assert center.node.version == center.node.applied == applied


# NaN and infinity.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("position", "name"),
    [((0, 3), "kernel"), ((0, 12), "bias"), ((1, 0), "mean")],
)
@pytest.mark.parametrize("call", ["push", "exchange", "deposit"])
def test_what_is_not_finite_is_refused(center, call, bad, position, name):
    sent = support.values(1.0)
    sent[position[0]][position[1]] = bad
    before = center.bits()
    with pytest.raises(errors.NonFiniteError, match=f"worker 0 sent .*{name}"):
        getattr(center.node.exchanges, call)(PushId(0, 1, 1, 0), sent, HALF)
    assert center.bits() == before
    assert center.node.version == 0
    # The worker may send the same push once more, mended; alone in its round,
    # it ends it.
    push = getattr(center.node.exchanges, call)
    push(PushId(0, 1, 1, 0), support.values(1.0), HALF)
    assert center.node.arrays[0][0] == 0.5


@pytest.mark.parametrize("call", ["exchange", "deposit"])
def test_a_difference_that_overflows_is_refused(call):
    center = Center(start=-1e308)
    before = center.bits()
    with (
        np.errstate(over="ignore"),
        pytest.raises(errors.NonFiniteError, match="worker 0"),
    ):
        getattr(center.node.exchanges, call)(
            PushId(0, 1, 1, 0), support.values(1.7e308), HALF
        )
    assert center.bits() == before


@pytest.mark.parametrize(
    "rate",
    [
        support.push_rate(*values)
        for values in ((np.nan, 1), (-0.1, 1), (np.inf, 1), (0.5, 0), (3.0, 1))
    ],
)
def test_a_rate_that_makes_no_sense_is_refused(center, rate):
    before = center.bits()
    with pytest.raises(errors.MessageError, match="`beta`|`num_workers`"):
        center.push(0, 1, rate=rate)
    assert center.bits() == before


# A worker's clock, and what the chief has told.


def test_a_clock_goes_on_with_the_next_life(center):
    center.node.heartbeat(0, 1, 70, 7, {})
    center.node.heartbeat(0, 1, 60, 6, {})  # It was late.
    state, arrays = center.node.snapshot()
    again = Center(empty=True)
    again.node.restore(state, arrays)
    for each in (center, again):
        assert each.node.hello(0)["clock"] == 70
        assert each.node.hello(1)["clock"] == 0
        each.join(0, 2)
        assert each.node.hello(0)["clock"] == 70
        assert each.node.hello(0)["total_samples"] == 7


def instruct(center, number, stop=False, rate=None, worker=0):
    return center.node.instruct(
        worker,
        1,
        number=number,
        stop=stop,
        learning_rate=rate,
        instead_of=rate and 2 * rate,
    )["instruction"]


def test_the_chiefs_newest_word_is_passed_on(center):
    center.join(1)
    assert center.heartbeat(1)["instruction"]["number"] == 0
    told = instruct(center, 2, True, 0.1)
    assert (told["stop"], told["learning_rate"]) == (True, 0.1)
    assert instruct(center, 1) == told  # That is an older one.
    assert center.push(1, 1)["instruction"] == told
    with pytest.raises(errors.MessageError, match="Only the chief"):
        instruct(center, 3, worker=1)
    state, arrays = center.node.snapshot()
    again = Center(empty=True)
    again.node.restore(state, arrays)
    assert again.node.hello(1)["instruction"] == told
    # Who goes on when all have ended was not told to stop.
    for worker in (0, 1):
        center.node.leave(worker, 1)
    center.join(0, 2)
    told = center.node.hello(1)["instruction"]
    assert (told["stop"], told["learning_rate"]) == (False, 0.1)


# Rounds.


def test_a_worker_whose_answer_was_lost_comes_to_the_same_round_again(center):
    center.join(1)
    center.node.exchanges.deposit(PushId(0, 1, 1, 0), support.values(1.0), HALF)
    center.node.exchanges.deposit(PushId(0, 1, 2, 0), support.values(3.0), HALF)
    center.node.exchanges.deposit(PushId(1, 1, 1, 0), support.values(5.0), HALF)
    # Every part that has come moves the center: 0.5 * (1 + 3 + 5).
    assert center.node.arrays[0][0] == 4.5
    assert center.node.hello(0)["pushes"] == 2


def test_a_forgotten_round_is_told(center):
    center.join(1)
    news, _ = center.node.exchanges.deposit(
        PushId(0, 1, 1, 0), support.values(1.0), HALF
    )
    state, arrays = center.node.snapshot()
    again = Center(empty=True)
    again.node.restore(state, arrays)
    for force in (False, True):
        with pytest.raises(errors.UnknownWorkerError, match="begun anew"):
            again.node.exchanges.release(0, 1, news["round"], 0.0, force)
    assert again.node.version == 0


# What is kept.


def test_a_snapshot_holds_all_that_counts(center):
    center.join(1)
    center.push(0, 1)
    center.push(1, 7)
    center.heartbeat(1, samples=64)
    state, arrays = center.node.snapshot()
    again = Center(empty=True)
    again.node.restore(state, arrays)
    assert again.node.version == 2
    assert again.bits() == center.bits()
    assert again.heartbeat(0)["total_samples"] == 64
    with pytest.raises(errors.DuplicatePushError):
        again.push(1, 7)
    again.push(1, 8)
    # The copy is not the center itself.
    assert arrays is not center.node.arrays


@pytest.mark.parametrize("key", ["shard", "num_shards"])
def test_a_snapshot_of_another_center_is_refused(center, key):
    state, arrays = center.node.snapshot()
    with pytest.raises(errors.CenterRefusedError, match=f"{key} is 5"):
        support.new_node(0, 1).restore({**state, key: 5}, arrays)
