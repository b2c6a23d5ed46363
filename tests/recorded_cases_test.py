"""Logs of what seldom happens, as moves; and what is refused."""

import math

import pytest

from tests import cluster_support as support
from tests import log_support
from tests import virtual_support
from tf_elastic.core import rules
from tf_elastic.timeline import event as events
from tf_elastic.timeline.virtual import moves as kinds
from tf_elastic.timeline.virtual.recorded import RecordedTimeline

cluster = log_support.cluster

# An exchange of differences.
WHOLE = "make", "read", "apply", "settling_step"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def names(timeline, worker):
    found = list(timeline.moves())
    virtual_support.check(found, timeline.num_workers, forgets=True)
    return [kinds.NAMES[m.kind] for m in found if m.worker == worker]


def test_a_worker_that_is_late_begins_again(cluster, path):
    timeline = RecordedTimeline(log_support.too_late(path, cluster(1)))
    assert names(timeline, 1) == [
        *("step", *WHOLE),
        *("make", "drop", "restart", "step"),
        *(*WHOLE, *WHOLE),
    ]


@pytest.mark.parametrize("rule", [rules.Add(), rules.Nesterov()])
def test_a_worker_that_is_late_goes_on_from_the_center(cluster, path, rule):
    timeline = RecordedTimeline(
        log_support.too_late(path, cluster(1, rule=rule))
    )
    whole = "step", "make", "arrive", "settle"
    assert names(timeline, 1) == [
        *whole,
        *("step", "make", "drop", "answer", "settle"),
        *(*whole, *whole),
    ]


def test_a_worker_that_has_lost_its_slot_begins_again(cluster, path):
    timeline = RecordedTimeline(log_support.lost_slot(path, cluster(1)))
    assert names(timeline, 1) == ["step", *WHOLE, "restart", "step", *WHOLE]


def test_a_process_that_follows_another_joins(cluster, path):
    timeline = RecordedTimeline(log_support.second_life(path, cluster(1)))
    assert names(timeline, 1) == [
        *("step", *WHOLE),
        *("die", "join", "step", *WHOLE),
    ]
    [join] = [m for m in timeline.moves() if m.kind == kinds.JOIN]
    assert (join.clock, join.version) == (1, 3)


def test_an_answer_that_is_lost_is_dropped(cluster, path, monkeypatch):
    timeline = RecordedTimeline(
        log_support.lost_half(path, cluster(1), monkeypatch)
    )
    assert names(timeline, 0) == [
        *("step", *WHOLE),
        *("make", "read", "apply", "drop", "step"),
        *WHOLE,
    ]


def test_an_increment_whose_answer_is_lost_is_refused(
    cluster, path, monkeypatch
):
    """What its worker sends next depends on whether it will be known."""
    found = log_support.lost_half(
        path, cluster(1, rule=rules.Add()), monkeypatch
    )
    with pytest.raises(ValueError, match="answered for the second time only"):
        RecordedTimeline(found)


def test_a_center_that_was_set_back_is_refused(cluster, path):
    found = log_support.set_back(path, cluster(1))
    with pytest.raises(ValueError, match="the center has begun anew|set back"):
        RecordedTimeline(found)


def test_a_worker_that_dies_is_dead(cluster, path):
    servers = cluster(1)
    first, second = log_support.heard(path, servers, 2)
    log_support.exchange(second)
    with servers.shards[0].changed:
        servers.shards[0].registry.members[1].last_seen = -math.inf
        servers.shards[0].tick()
    log_support.exchange(first)
    timeline = RecordedTimeline(log_support.told(path))
    assert names(timeline, 1) == ["step", *WHOLE, "die"]


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("elastic", "blocking"),
        ("elastic", "overlapped"),
        ("add", "blocking"),
        ("mean", "synchronous"),
    ],
)
def test_calls_that_make_a_step_together(path, name, protocol):
    """Exchanges are due when a virtual cluster's are."""
    rule = {"add": rules.Add(), "mean": rules.Mean()}.get(name)
    entries = log_support.record(path, protocol, rule)
    found = [entry.event for entry in entries]
    one, three = RecordedTimeline(found), RecordedTimeline(found, 3)
    assert three.num_steps == 3 * one.num_steps
    load = virtual_support.workload(three.rule, protocol, 2 * 3)
    phase = 2 if load.is_before else load.phase
    made = [m for m in three.moves() if m.kind == kinds.MAKE]
    after = 0 if load.is_before else 1
    dues = [m for m in made if m.clock % 6 == (phase + after) % 6]
    # All but the last ones, at the end of training.
    assert len(dues) >= len(made) - 2
    virtual_support.check(list(three.moves()), 2)


# Another log.


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    return [e.event for e in log_support.record(path, "overlapped")]


def test_a_log_of_another_training_is_refused(found):
    timeline = RecordedTimeline(found)
    layout = support.layout.Layout(support.VARIABLES, 1)
    fits = {
        "num_workers": 2,
        "protocol": "overlapped",
        "rule": rules.Elastic(),
        "model": layout.fingerprint,
    }
    timeline.check(**fits)
    other = support.layout.Layout(support.VARIABLES[:2], 1)
    for name, value, message in (
        ("num_workers", 3, "the number of workers is 2 in the log, and 3"),
        ("protocol", "blocking", "the protocol is overlapped in the log"),
        ("rule", rules.Add(), "the rule is {'rule': 'elastic'} in the log"),
        ("model", other.fingerprint, "the model is 4 variables, 24 values: "),
    ):
        with pytest.raises(ValueError, match=message):
            timeline.check(**{**fits, name: value})


def test_names_of_variables_do_not_matter():
    renamed = [v._replace(name=f"{v.name}_1") for v in support.VARIABLES]
    layouts = [
        support.layout.Layout(variables, 1)
        for variables in (support.VARIABLES, renamed)
    ]
    assert len({layout.fingerprint for layout in layouts}) == 1
    single = [v._replace(dtype="float32") for v in support.VARIABLES]
    other = support.layout.Layout(single, 1)
    assert other.fingerprint != layouts[0].fingerprint


def changes(found, kind, **fields):
    """The log with other fields in the first event of a kind."""
    place = next(k for k, e in enumerate(found) if e.kind == kind)
    return [
        *found[:place],
        found[place]._replace(**fields),
        *found[place + 1 :],
    ]


def forgotten(found):
    return [*found, found[-1]._replace(kind=events.FORGOTTEN, worker=0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda log: changes(log, events.EXCHANGE, shard=1),
            "it is of several center servers",
        ),
        (
            lambda log: changes(log, events.ANSWER, group=1),
            "it is of several optimizers",
        ),
        (
            lambda log: changes(log, events.EXCHANGE, call=None),
            "'call' is not told: it is of an older release",
        ),
        (
            lambda log: changes(log, events.EXCHANGE, version_applied=None),
            "'version_applied' is not told",
        ),
        (
            lambda log: changes(log, events.BEGIN, outcome=events.RESTORED),
            "the center does not begin with a worker's parameters",
        ),
        (
            lambda log: [*log, *(e for e in log if e.kind == events.BEGIN)],
            "the center has begun anew",
        ),
        (
            lambda log: [e for e in log if e.kind != events.BEGIN],
            "Received: one without",
        ),
        (
            lambda log: [e for e in log if not e.teller.startswith("worker")],
            "no 'start' of worker 0",
        ),
        (
            lambda log: [e for e in log if e.kind != events.START],
            "no 'start' of worker 0",
        ),
        (
            lambda log: changes(log, events.START, settings={}),
            "what the worker starts with is not told",
        ),
        (
            lambda log: changes(
                log,
                events.START,
                settings={
                    "protocol": "blocking",
                    "rule": {"rule": "mean_of_parts"},
                    "model": "",
                },
            ),
            "the steps of ADMM are a part of its exchanges",
        ),
        (
            lambda log: changes(log, events.EXCHANGE, version_applied=1),
            "told twice|nobody has moved the center",
        ),
        (
            lambda log: changes(log, events.EXCHANGE, version_applied=1000),
            "nobody has moved the center on from version 0",
        ),
        (
            lambda log: changes(
                log, events.EXCHANGE, incarnation=None, sequence=None
            ),
            "'incarnation' is not told",
        ),
        (
            lambda log: changes(log, events.EXCHANGE, worker=None),
            "it is of a node of a tree",
        ),
        (
            lambda log: forgotten(log),
            "the center was set back",
        ),
        (lambda log: [], "the center's beginning"),
    ],
)
def test_a_log_that_cannot_be_repeated_is_refused(found, change, message):
    with pytest.raises(ValueError, match=message):
        RecordedTimeline(change(found))


def test_another_part_of_a_step_is_refused(found):
    with pytest.raises(ValueError, match="Received: accumulation=0"):
        RecordedTimeline(found, accumulation=0)
