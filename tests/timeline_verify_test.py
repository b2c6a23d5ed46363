"""What cannot have been so is found in a log: one changed record is."""

import pytest

from tests import cluster_support as support
from tests import log_support
from tests import virtual_support
from tf_elastic.core import rules
from tf_elastic.timeline import Event
from tf_elastic.timeline import __main__ as program
from tf_elastic.timeline import event as events
from tf_elastic.timeline.verify import entries
from tf_elastic.timeline.verify import verify
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import events_of

RULES = {
    "elastic": rules.Elastic(),
    "add": rules.Add(),
    "nesterov": rules.Nesterov(),
    "mean": rules.Mean(),
    "mean_of_parts": rules.MeanOfParts(),
}
RUNS = [
    *(("elastic", protocol) for protocol in log_support.PROTOCOLS),
    *(("add", "blocking"), ("add", "overlapped")),
    *(("nesterov", "blocking"), ("mean", "synchronous")),
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """`logs(rule, protocol, shards)`: of two workers; each is made once."""
    folder = tmp_path_factory.mktemp("logs")
    made = {}

    def log(name, protocol, shards=1):
        key = name, protocol, shards
        if key not in made:
            path = folder / f"{name}-{protocol}-{shards}.jsonl"
            log_support.record(path, protocol, RULES[name], shards, steps=7)
            made[key] = path
        return made[key]

    return log


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(("name", "protocol"), RUNS)
def test_a_real_log_can_have_been_so(logs, name, protocol, shards):
    found = list(entries(logs(name, protocol, shards)))
    assert [str(violation) for violation in verify(found)] == []
    # In the order of the times it is one, too.
    found.sort(key=lambda entry: entry.event.time)
    assert verify(entry.event for entry in found) == []


# Other values of each field; of numbers one that is more, one that is less.

FLAT = {
    "kind": [*events.KINDS, "?"],
    "outcome": events.OUTCOMES,
    "call": events.CALLS,
    "teller": ["center 0", "center 1", "worker 0", "worker 1", "onlooker"],
    "group": [1],
    "worker": [0, 1, 7],
    "child": ["worker 0", "worker 1", "worker 7", "center 0", "center 1", "?"],
}


def others(name, value):
    """Other values of a field, by names."""
    if name in FLAT:
        return {str(one): one for one in FLAT[name]}
    if name in ("rates", "settings"):
        more = {
            key: {**value, key: one * 2 + 1 if name == "rates" else "other"}
            for key, one in value.items()
        }
        return {**more, "none": None}
    if name in ("time", "seconds"):
        return {"more": value + 1000, "less": value - 1000}
    return {"more": value + 1, "less": value - 1, "none": None}


# Nothing else tells of these: when all began and ended, how far a worker was
# before it started, which version it then read if it reads again before it
# brings something, p while somebody may be expected, and rates.
NOT_FOUND = {
    ("join", "time", "less"),  # the first one
    ("leave", "time", "more"),  # the last one
    ("start", "step_applied", "more"),
    ("start", "version_read", "more"),
    ("start", "version_read", "less"),
    ("join", "num_workers", "more"),
    ("exchange", "rates", "learning_rate"),
    ("exchange", "rates", "momentum"),
}


def changed(found):
    """(place, kind, field, how, log) of all logs with one changed field."""
    for place, event in enumerate(found):
        for name, value in event._asdict().items():
            if value is None:
                continue
            for how, other in others(name, value).items():
                if other != value:
                    one = event._replace(**{name: other})
                    log = [*found[:place], one, *found[place + 1 :]]
                    yield place, (event.kind, name, how), log


@pytest.mark.parametrize(("name", "protocol"), RUNS)
def test_one_changed_record_is_found(logs, name, protocol):
    found = [entry.event for entry in entries(logs(name, protocol))]
    missed, seen = {}, set()
    for place, what, log in changed(found):
        seen.add(what)
        if not verify(log):
            missed.setdefault(what, []).append(place)
    assert {kind for kind, *_ in seen} >= {
        *(events.BEGIN, events.JOIN, events.LEAVE, events.EXCHANGE),
        *(events.ANSWER, events.SETTLE, events.START, events.END, events.WAIT),
    }
    assert set(missed) <= NOT_FOUND, missed
    # The first, or the last, and no other.
    assert set(missed.get(("join", "time", "less"), [0])) == {0}
    last = len(found) - 1
    assert set(missed.get(("leave", "time", "more"), [last])) == {last}
    if protocol != "blocking":
        assert not {what for what in missed if what[1] == "version_read"}


@pytest.mark.parametrize(("name", "protocol"), RUNS)
def test_a_missing_or_repeated_message_is_found(logs, name, protocol):
    found = [entry.event for entry in entries(logs(name, protocol))]
    for place, event in enumerate(found):
        if event.kind in (events.EXCHANGE, events.ANSWER, events.ROUND):
            assert verify([*found[:place], *found[place + 1 :]]), event
            assert verify([*found[:place], event, *found[place:]]), event


def test_a_violation_is_named(logs, tmp_path, capsys):
    path = logs("elastic", "overlapped")
    assert program.main(["verify", str(path)]) == 0
    assert capsys.readouterr().out.endswith("events, nothing wrong.\n")
    lines = path.read_text().splitlines()
    place = max(k for k, x in enumerate(lines) if '"kind":"exchange"' in x)
    event = Event.from_json(lines[place])
    lines[place] = event._replace(version_applied=1000).to_json()
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(lines) + "\n")
    assert program.main(["verify", str(other)]) == 1
    shown = capsys.readouterr().out
    assert f"{other}:{place + 1} (exchange, told by center 0, worker" in shown
    assert "the center is at version" in shown
    assert "and not 1000" in shown


def test_files_of_several_processes_are_one_log(logs, tmp_path):
    found = list(entries(logs("elastic", "blocking", 2)))
    paths = {}
    for entry in found:
        path = tmp_path / f"{entry.event.teller}.jsonl"
        paths.setdefault(path, []).append(entry.event.to_json())
    for path, lines in paths.items():
        path.write_text("\n".join(lines) + "\n")
    assert verify(entries(*paths)) == []
    # Of the centers alone, too, and of one whose clock is an hour ahead.
    assert verify(entries(*(p for p in paths if "center" in p.name))) == []
    shifted = [
        entry._replace(event=entry.event._replace(time=entry.event.time + 3600))
        if entry.event.teller == "worker 1"
        else entry
        for entry in found
    ]
    assert verify(shifted) == []


# What goes wrong, and is told.

cluster = log_support.cluster


def test_a_server_that_was_away(cluster, tmp_path):
    path, servers = tmp_path / "events.jsonl", cluster(2)
    [worker] = log_support.heard(path, servers, 1)
    log_support.exchange(worker)
    servers.servers[1].stop(0.0)
    log_support.exchange(worker)
    log_support.exchange(worker)
    servers.serve(1)
    support.until(
        lambda: any(e.kind == events.BACK for e in log_support.told(path))
    )
    log_support.exchange(worker)
    worker.client.leave(finished=True)
    found = log_support.told(path)
    assert [str(v) for v in verify(found)] == []
    for _, what, log in changed(found):
        if what[0] in (events.AWAY, events.BACK, events.MISS):
            assert verify(log), what


def test_a_worker_that_is_late(cluster, tmp_path):
    found = log_support.too_late(tmp_path / "events.jsonl", cluster(1))
    assert events.LATE in {event.outcome for event in found}
    assert [str(violation) for violation in verify(found)] == []


def test_a_worker_that_has_lost_its_slot(cluster, tmp_path):
    found = log_support.lost_slot(tmp_path / "events.jsonl", cluster(1))
    kinds = {event.kind for event in found}
    assert kinds >= {events.DEATH, events.RESTART}
    assert [str(violation) for violation in verify(found)] == []


def test_a_process_that_follows_another(cluster, tmp_path):
    found = log_support.second_life(tmp_path / "events.jsonl", cluster(1))
    assert {event.incarnation for event in found} >= {1, 2}
    assert [str(violation) for violation in verify(found)] == []


@pytest.mark.parametrize("name", ["elastic", "add"])
def test_a_center_that_was_set_back(cluster, tmp_path, name):
    servers = cluster(1, rule=RULES[name])
    found = log_support.set_back(tmp_path / "events.jsonl", servers)
    kinds = {event.kind for event in found}
    assert kinds >= {events.AWAY, events.BACK, events.FORGOTTEN}
    assert [e.outcome for e in found if e.kind == events.BEGIN] == [
        events.FIRST,
        events.RESTORED,
    ]
    assert [str(violation) for violation in verify(found)] == []


def test_a_half_that_is_lost(cluster, tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    found = log_support.lost_half(path, cluster(1), monkeypatch)
    assert [e.amount for e in found if e.kind == events.LOST_HALF] == [1]
    assert [str(violation) for violation in verify(found)] == []
    without = [e for e in found if e.kind != events.LOST_HALF]
    [violation] = verify(without)
    assert "0 halves are lost by this worker, and 1" in violation.what


def test_an_older_log_tells_less(logs):
    """Of a release without `start`: what it tells is looked at."""
    found = [
        entry.event._replace(call=None, settings=None)
        for entry in entries(logs("elastic", "overlapped"))
        if entry.event.kind not in (events.START, events.END)
    ]
    older = [
        e._replace(version_read=None, version_settled=None)
        if e.kind in (events.ANSWER, events.SETTLE)
        else e
        for e in found
    ]
    assert verify(older) == []
    assert verify([]) == []
    place = max(k for k, e in enumerate(older) if e.kind == events.EXCHANGE)
    older[place] = older[place]._replace(version_applied=3)
    assert verify(older)


# Of a virtual cluster.

TIMINGS = {
    "even": Timing(1.0),
    "slow": Timing(LogNormal(1.0, 0.8), latency=0.1, service=0.05),
    "faulty": Timing(
        LogNormal(1.0, 0.8),
        latency=0.1,
        deaths=0.005,
        recovery=10.0,
        joins=[(1, 5.0)],
    ),
}


def virtual_rates(move):
    p = max(move.num_workers, 1)
    return {**log_support.rates(p, 0, ()), "num_workers": p}


@pytest.mark.parametrize("rates", [None, virtual_rates])
@pytest.mark.parametrize("max_lag", [None, 2.0])
@pytest.mark.parametrize("protocol", log_support.PROTOCOLS)
@pytest.mark.parametrize("name", ["elastic", "add", "nesterov", "mean"])
@pytest.mark.parametrize("timing", TIMINGS)
def test_a_virtual_log_can_have_been_so(timing, name, protocol, max_lag, rates):
    made = virtual_support.timeline(
        TIMINGS[timing],
        4,
        rule=RULES[name],
        protocol=protocol,
        period=2,
        max_lag=max_lag,
    )
    found = events_of(made, virtual_support.first(made, 1500), rates=rates)
    assert [str(violation) for violation in verify(found)] == []
