"""The stream of events: its schema, its file, and what a cluster tells."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from matplotlib import image

from tests import cluster_support as support
from tests import timeless_client
from tf_elastic.cluster import errors
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.timeline import Event
from tf_elastic.timeline import EventFile
from tf_elastic.timeline import Stream
from tf_elastic.timeline import Tally
from tf_elastic.timeline import __main__ as program
from tf_elastic.timeline import event as events
from tf_elastic.timeline import event_file
from tf_elastic.timeline import report

PUSH = Event(
    events.EXCHANGE,
    12.5,
    "center 1",
    worker=3,
    group=2,
    shard=1,
    incarnation=2,
    sequence=7,
    step_sent=70,
    step_applied=80,
    version_settled=45,
    version_read=40,
    version_applied=44,
    num_workers=4,
    rates={"beta": 0.9, "num_workers": 4},
    bytes=168,
    seconds=0.25,
    amount=5,
    outcome=events.APPLIED,
    call=events.TAKE,
    child="worker 1",
    parent=0,
    parent_before=2,
    settings={"protocol": "blocking", "rule": {"rule": "add"}},
)


def test_an_event_comes_back_from_its_line():
    assert all(value is not None for value in PUSH)
    assert Event.from_json(PUSH.to_json()) == PUSH
    assert PUSH.staleness == 4


def test_a_rate_that_the_center_fills_in_is_none():
    """Of an average with no constant rate, say."""
    event = PUSH._replace(rates={"beta": 0.9, "averaging_rate": None})
    assert Event.from_json(event.to_json()) == event


def test_what_does_not_apply_is_not_written():
    event = Event(events.JOIN, 1.0, "center 0", worker=0, shard=0)
    assert event.to_json() == (
        '{"kind":"join","time":1.0,"teller":"center 0","worker":0,"shard":0}'
    )
    assert Event.from_json(event.to_json()) == event
    assert event.staleness is None


def test_numbers_of_numpy_are_written_as_numbers():
    event = PUSH._replace(
        version_read=np.int64(3), rates={"beta": np.float32(0.5)}
    )
    found = Event.from_json(event.to_json())
    assert (found.version_read, found.rates) == (3, {"beta": 0.5})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "Expecting value"),
        ("[]", "it is no JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"kind":"join","time":1.0}', "it has no 'teller'"),
        ('{"kind":"joins","time":1.0,"teller":"x"}', "kind is 'joins'"),
        ('{"kind":"join","time":NaN,"teller":"x"}', "time is nan"),
        ('{"kind":"join","time":1,"teller":"x","of":1}', "no 'of'"),
        ('{"kind":"join","time":1,"teller":"x","worker":true}', "worker is"),
        ('{"kind":"join","time":1,"teller":"x","rates":[1]}', "rates is"),
        ('{"kind":"join","time":1,"teller":"x","outcome":"?"}', "outcome is"),
        ('{"kind":"join","time":1,"teller":"x","call":"send"}', "call is"),
        ('{"kind":"join","time":1,"teller":"x","settings":1}', "settings is"),
    ],
)
def test_what_is_no_event_is_refused(line, message):
    with pytest.raises(ValueError, match=message):
        Event.from_json(line)


def told(*listeners):
    seconds = iter(range(1000))
    stream = Stream("worker 1", lambda: float(next(seconds)), worker=1)
    for listener in listeners:
        stream.listen(listener)
    return stream


def test_a_file_has_what_several_threads_have_told(tmp_path):
    path = tmp_path / "deep" / "events.jsonl"
    stream = told(EventFile(path), EventFile(path))

    def tell():
        for _ in range(50):
            stream.tell(events.WAIT, seconds=0.5)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = event_file.read(path)
    assert len(found) == 2 * 4 * 50
    assert {e.kind for e in found} == {events.WAIT}
    assert [e.time for e in found] == sorted(e.time for e in found)


def test_files_are_read_in_the_order_of_the_times(tmp_path):
    for k in range(2):
        file = EventFile(tmp_path / f"{k}.jsonl")
        for step in range(3):
            file(Event(events.WAIT, 2.0 * step + k, f"worker {k}"))
        file.close()
    found = event_file.read(tmp_path / "1.jsonl", tmp_path / "0.jsonl")
    assert [e.time for e in found] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_half_a_last_line_is_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(PUSH.to_json() + "\n" + PUSH.to_json()[:20])
    assert event_file.read(path) == [PUSH]


def test_damage_in_the_middle_is_named(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(PUSH.to_json().encode() + b"\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"Line 2 of .*events.jsonl must be"):
        event_file.read(path)


def test_a_full_disk_ends_the_file_and_nothing_else(caplog):
    file = EventFile("/dev/full")
    file(PUSH)
    file(PUSH)
    assert "No more events are written to /dev/full" in caplog.text
    assert len(caplog.records) == 1


def test_the_environment_names_the_file(tmp_path, monkeypatch):
    monkeypatch.delenv(event_file.VARIABLE, raising=False)
    assert event_file.to_file(None) is None
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(event_file.VARIABLE, str(path))
    file = event_file.to_file(None)
    assert file.path == str(path)
    assert event_file.to_file(path) is file


def test_a_tally_counts():
    tally = Tally()
    stream = told(tally)
    stream.tell(events.LOST_HALF, amount=2)
    stream.tell(events.LOST_HALF, amount=1)
    stream.tell(events.WAIT, seconds=0.5)
    stream.tell(events.WAIT, seconds=0.25)
    for read in (3, 1):
        stream.tell(
            events.EXCHANGE,
            version_read=read,
            version_applied=4,
            bytes=8,
            outcome=events.APPLIED,
        )
    stream.tell(events.EXCHANGE, outcome=events.LATE)
    assert tally.amount(events.LOST_HALF) == 3
    assert tally.seconds(events.WAIT) == 0.75
    assert tally.number(events.EXCHANGE) == 3
    assert tally.number(events.EXCHANGE, events.LATE) == 1
    assert tally.bytes(events.EXCHANGE) == 16
    assert tally.mean_staleness == 2.0
    assert tally.number(events.RESTART) == 0
    assert Tally().mean_staleness == 0.0


# What a cluster tells.


@pytest.fixture
def cluster():
    made = support.Cluster(2)
    yield made
    made.close()


def heard(cluster):
    """What the servers tell from now on."""
    found = []
    for node in cluster.shards:
        node.events.listen(found.append)
    return found


def test_each_arrival_is_told(cluster):
    found, own = heard(cluster), []
    around = [Surroundings(events=own.append) for _ in range(2)]
    workers = cluster.workers(
        2,
        lambda i: support.values(float(i)),
        "overlapped",
        around=iter(around),
    )
    for _ in range(3):
        for worker in workers:
            worker.clock += 10
            worker.overlap()
    for worker in workers:
        worker.obey(worker.exchanger.collect(worker.moment()))
        worker.client.leave(finished=True)

    begins = [(e.shard, e.outcome) for e in found if e.kind == events.BEGIN]
    assert begins == [(0, events.FIRST), (1, events.FIRST)] or begins == [
        (1, events.FIRST),
        (0, events.FIRST),
    ]
    joins = [(e.worker, e.shard) for e in found if e.kind == events.JOIN]
    assert sorted(joins) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for shard in range(2):
        arrived = [
            e for e in found if e.kind == events.EXCHANGE and e.shard == shard
        ]
        assert [e.worker for e in arrived] == [0, 1] * 3
        assert [e.sequence for e in arrived] == [1, 1, 2, 2, 3, 3]
        assert [e.step_sent for e in arrived] == [10, 10, 20, 20, 30, 30]
        assert [e.version_applied for e in arrived] == list(range(6))
        assert [e.version_settled for e in arrived] == list(range(1, 7))
        assert [e.version_read for e in arrived] == [0, 0, 1, 2, 3, 4]
        assert [e.staleness for e in arrived] == [0, 1, 1, 1, 1, 1]
        assert {e.outcome for e in arrived} == {events.APPLIED}
        assert {e.call for e in arrived} == {events.EXCHANGE}
        assert {e.num_workers for e in arrived} == {2}
        assert {e.rates["beta"] for e in arrived} == {support.BETA}
        sizes = cluster.layout.shard_sizes(shard)
        assert {e.bytes for e in arrived} == {2 * 8 * sum(sizes)}
        assert all(e.seconds >= 0 for e in arrived)
    left = [(e.worker, e.outcome) for e in found if e.kind == events.LEAVE]
    assert sorted(left) == [(w, events.FINISHED) for w in (0, 0, 1, 1)]

    settled = [e for e in own if e.kind == events.SETTLE]
    assert [
        (e.worker, e.sequence, e.step_sent, e.step_applied) for e in settled
    ] == [
        (0, 1, 10, 20),
        (1, 1, 10, 20),
        (0, 2, 20, 30),
        (1, 2, 20, 30),
        (0, 3, 30, 30),
        (1, 3, 30, 30),
    ]
    assert [e.version_settled for e in settled] == list(range(1, 7))
    answered = [e for e in own if e.kind == events.ANSWER]
    assert [e.amount for e in answered] == [2] * 6
    assert [e.version_read for e in answered] == [0, 0, 1, 2, 3, 4]
    assert [e.version_settled for e in answered] == list(range(1, 7))
    # A message and its answer are one, by these numbers.
    sent = {(e.worker, e.incarnation, e.sequence) for e in settled}
    assert sent == {
        (e.worker, e.incarnation, e.sequence)
        for e in found
        if e.kind == events.EXCHANGE
    }


def test_what_a_worker_begins_with_is_told(cluster):
    own = []
    first, second = cluster.workers(
        2,
        support.values,
        around=iter([Surroundings(), Surroundings(events=own.append)]),
    )
    first.clock = 1
    first.exchange()
    second.begin()
    second.clock = 3
    second.exchange()
    second.exchanger.ends(second.moment())
    [start] = [e for e in own if e.kind == events.START]
    assert (start.worker, start.incarnation) == (1, 1)
    assert (start.step_applied, start.version_read) == (0, 1)
    assert start.settings == {
        "protocol": "blocking",
        "rule": {"rule": "elastic"},
        "compression": "none",
        "model": cluster.layout.fingerprint,
    }
    assert start.settings["model"].startswith("4 variables, 24 values: ")
    assert Event.from_json(start.to_json()) == start
    assert (own[-1].kind, own[-1].step_applied) == (events.END, 3)
    # The difference was read, and moved the center, at once.
    [answer] = [e for e in own if e.kind == events.ANSWER]
    assert (answer.version_read, answer.version_settled) == (1, 2)


def test_what_is_not_applied_is_told(cluster):
    worker = cluster.workers(1, support.values)[0]
    worker.clock = 1
    worker.exchange()
    found = heard(cluster)
    node = cluster.shards[0]
    push = PushId(0, 1, 1, node.version)
    parts = cluster.layout.parts(support.values(), 0)
    rates = support.push_rate(0.9, 1)
    with pytest.raises(errors.DuplicatePushError):
        node.exchanges.push(push, parts, rates)
    parts[0] = np.full_like(parts[0], np.nan)
    with pytest.raises(errors.NonFiniteError):
        node.exchanges.push(push._replace(sequence=2), parts, rates)
    with pytest.raises(errors.MessageError):
        node.exchanges.push(push._replace(sequence=2), parts, {"beta": "x"})
    late = push._replace(sequence=3, version_read=-1000, max_lag=10.0)
    with pytest.raises(errors.LatePushError):
        node.exchanges.exchange(late, parts, rates)
    assert [(e.sequence, e.outcome) for e in found] == [
        (1, events.DUPLICATE),
        (2, events.REFUSED),
        (2, events.REFUSED),
        (3, events.LATE),
    ]
    assert {e.version_settled for e in found} == {node.version}


def test_a_round_and_a_death_are_told():
    clock = timeless_client.Clock()
    node = support.new_node(lease_s=10.0, now=clock)
    found = []
    node.events.listen(found.append)
    description = support.layout.Layout(support.VARIABLES, 1).describe()
    for worker in range(2):
        node.join(worker, 1, 2, description, f"process {worker}")
    node.offer(0, 1, 0, True)
    clock.seconds += 2.0  # Offers have been compared.
    assert node.offer(0, 1, 0, True)["upload"]
    node.initialize(0, 1, 5, support.values())
    for worker in range(2):
        node.exchanges.deposit(
            PushId(worker, 1, 1, 5),
            support.values(1.0),
            support.push_rate(0.9, 2),
        )
    for _ in range(20):
        clock.seconds += 1.0
        node.heartbeat(1, 1, 1, 1, {})
        node.tick()
    told_of = [(e.kind, e.worker, e.amount, e.time) for e in found]
    assert told_of == [
        (events.JOIN, 0, None, 0.0),
        (events.JOIN, 1, None, 0.0),
        (events.BEGIN, 0, None, 2.0),
        (events.EXCHANGE, 0, None, 2.0),
        (events.EXCHANGE, 1, None, 2.0),
        (events.ROUND, None, 2, 2.0),
        (events.DEATH, 0, None, 13.0),
    ]
    assert found[-1].num_workers == 1
    assert found[-2].version_applied == 5


def test_a_server_that_is_away_is_told_of(cluster):
    own = []
    [worker] = cluster.workers(
        1, support.values, around=iter([Surroundings(events=own.append)])
    )
    worker.clock = 1
    cluster.servers[1].stop(0.0)
    worker.exchange()
    worker.clock = 2
    worker.exchange()
    cluster.serve(1)
    support.until(lambda: any(e.kind == events.BACK for e in own))
    told_of = {e.kind: e for e in own}
    assert told_of[events.AWAY].shard == told_of[events.BACK].shard == 1
    assert told_of[events.BACK].amount == 2 and told_of[events.BACK].seconds > 0
    assert [e.shard for e in own if e.kind == events.MISS] == [1, 1]
    counts = worker.client.counts
    assert (counts.exchanges, counts.missed) == (2, 2)
    assert counts.wait_s == sum(e.seconds for e in own if e.kind == events.WAIT)


# Tables.


def test_the_program_makes_a_table(cluster, tmp_path, capsys):
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    for node in cluster.shards:
        node.events.listen(file)
    worker, _ = cluster.workers(
        2,
        lambda i: support.values(float(i)),
        around=iter([Surroundings(events=file), Surroundings()]),
    )
    worker.clock = 1
    worker.exchange()
    worker.client.leave(finished=True)
    assert program.main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert program.main(["table", str(path)]) == 0
    assert capsys.readouterr().out == shown
    header, first, second, *centers = shown.splitlines()[1:]
    assert header.split()[:2] == ["worker", "lives"]
    assert first.split()[:4] == ["0", "1", "2", "0"]
    assert first.split()[-1] == "finished"
    assert second.split()[:3] == ["1", "1", "0"]
    assert len(centers) == 2
    assert all("1 of 1 messages applied" in line for line in centers)
    assert report.of([]) == "No events."


def test_the_program_makes_a_picture(tmp_path, capsys):
    path = tmp_path / "events.jsonl"
    path.write_text(PUSH.to_json() + "\n")
    assert program.main(["plot", str(path)]) == 0
    other = tmp_path / "other.png"
    assert program.main(["plot", str(path), f"--output={other}"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [str(tmp_path / "events.png"), str(other)]
    for drawn in shown:
        assert image.imread(drawn).shape[1] == 1560


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/file"], "/no/such/file is no file, and no command; "),
        (["plots", "a.jsonl"], "these are table, plot, status, verify, "),
        (["table", "/no/such/file"], "/no/such/file cannot be read: No such"),
        (["plot", "/no/such/file"], "/no/such/file cannot be read: No such"),
        (["status", "/no/such/file"], "/no/such/file cannot be read: No such"),
    ],
)
def test_the_program_says_what_is_wrong(arguments, message, capsys):
    assert program.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["plot"], ["table", "--output=x"]])
def test_the_program_says_how_it_is_used(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m tf_elastic.timeline" in capsys.readouterr().err


def test_the_program_helps(capsys):
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("table", "plot", "status", "verify"))


@pytest.mark.parametrize(
    "command", [["table"], ["plot"], ["status"], ["verify"], []]
)
def test_a_damaged_line_is_named(command, tmp_path, capsys):
    path = tmp_path / "events.jsonl"
    path.write_text(PUSH.to_json() + '\n{"kind":"joins"}\n')
    assert program.main([*command, str(path)]) == 2
    told_of = capsys.readouterr().err
    assert f"Line 2 of {path} must be an event." in told_of
    assert "kind is 'joins'" in told_of
    assert sorted(tmp_path.iterdir()) == [path]


def test_it_needs_no_tensorflow(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(PUSH.to_json() + "\n")
    code = (
        "import sys; from tf_elastic.timeline.__main__ import main; "
        "main(sys.argv[1:]); assert 'tensorflow' not in sys.modules"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "1 events" in found.stdout
