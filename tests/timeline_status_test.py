"""The status of a cluster, as its events tell it while they are written."""

import io

import pytest

from tests import cluster_support as support
from tf_elastic.cluster import watch
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.timeline import Event
from tf_elastic.timeline import EventFile
from tf_elastic.timeline import Status
from tf_elastic.timeline import __main__ as program
from tf_elastic.timeline import event as events
from tf_elastic.timeline import event_file
from tf_elastic.timeline import following
from tf_elastic.timeline.growing_file import GrowingFile

JOIN = Event(
    events.JOIN,
    10.0,
    "center 0",
    worker=0,
    shard=0,
    incarnation=1,
    num_workers=1,
)
PUSH = Event(
    events.EXCHANGE,
    20.0,
    "center 0",
    worker=0,
    shard=0,
    incarnation=1,
    sequence=1,
    step_sent=100,
    version_read=3,
    version_applied=7,
    version_settled=8,
    num_workers=1,
    seconds=0.25,
    outcome=events.APPLIED,
)
LEAVE = JOIN._replace(kind=events.LEAVE, time=50.0, outcome=events.FINISHED)


def status_of(*found):
    status = Status()
    for event in found:
        status(event)
    return status


def row(status, worker=0, now=None):
    """A worker's line, as its words."""
    [line] = [
        line
        for line in status.table(now).splitlines()
        if line.split()[0] == str(worker)
    ]
    return line.split(None, 9)


def test_the_columns():
    own = Event(events.WAIT, 21.0, "worker 0", worker=0, seconds=3.0)
    later = PUSH._replace(
        time=30.0,
        step_sent=150,
        version_read=8,
        version_applied=8,
        version_settled=9,
        seconds=0.75,
    )
    miss = Event(events.MISS, 30.0, "worker 0", worker=0, shard=0)
    status = status_of(JOIN, PUSH, own, later, miss, miss)
    assert status.table() == (
        "center 0: version 9, p = 1, 2 pushes applied\n"
        "worker life    steps  steps/s     loss distance   wait missed late"
        "  state\n"
        "     0    1      150      5.0        -        -  15.0%      2    0"
        "  trains\n"
        "staleness: 2.0 versions, 500 ms (of the newest 2 pushes)"
    )
    assert row(status, now=36.4)[-1] == "silent for 6 s"
    assert not status.has_ended
    status(LEAVE)
    assert row(status)[-1] == "has finished"
    assert status.has_ended
    assert status_of().table() == "No events."
    assert not status_of().has_ended


def test_what_a_dead_worker_has_told_is_not_its_next_lifes():
    own = Event(events.MISS, 21.0, "worker 0", worker=0, shard=0)
    death = JOIN._replace(kind=events.DEATH, time=40.0)
    status = status_of(JOIN, PUSH, own, death)
    assert row(status)[-1] == "is gone"
    assert status.has_ended  # As far as is known.
    status(JOIN._replace(time=60.0))  # It was only thought to be dead.
    assert row(status)[7] == "1" and not status.has_ended
    status(JOIN._replace(time=70.0, incarnation=2))
    assert row(status)[1:3] == ["2", "0"]
    assert row(status)[7] == "0"


def test_one_that_begins_again_from_the_center_lives_on():
    late = PUSH._replace(teller="worker 0", shard=None, outcome=events.LATE)
    again = Event(events.RESTART, 22.0, "worker 0", worker=0)
    status = status_of(
        JOIN,
        JOIN._replace(teller="center 1", shard=1),
        late,
        again,
        JOIN._replace(time=23.0, incarnation=2),
        JOIN._replace(time=23.0, incarnation=2, teller="center 1", shard=1),
    )
    assert row(status)[1] == "2" and row(status)[8] == "1"


def test_centers():
    away = Event(events.AWAY, 21.0, "worker 0", worker=0, shard=0)
    begin = Event(
        events.BEGIN,
        30.0,
        "center 0",
        shard=0,
        version_applied=6,
        outcome=events.RESTORED,
    )
    status = status_of(JOIN, PUSH, away)
    assert status.table().startswith("center 0 is away\n")
    status(away._replace(kind=events.BACK))
    assert status.table().startswith("center 0: version 8")
    # One that has started again counts from its snapshot.
    status(away)
    status(begin)
    assert status.table().startswith(
        "center 0: version 6, p = 1, 0 pushes applied\n"
    )
    end_of_round = begin._replace(kind=events.ROUND, outcome=None)
    status(end_of_round)
    assert status.table().startswith("center 0: version 7, ")


def test_a_second_optimizer_is_not_mixed_in():
    status = status_of(JOIN, PUSH)
    before = status.table()
    status(PUSH._replace(group=1, version_settled=99, step_sent=900))
    assert status.table() == before


def test_it_is_what_is_seen_of_a_cluster(tmp_path):
    """The same text as `watch`, but for what no event tells."""
    cluster = support.Cluster(2)
    try:
        path = tmp_path / "events.jsonl"
        file = EventFile(path)
        for node in cluster.shards:
            node.events.listen(file)
        workers = cluster.workers(
            2,
            lambda i: support.values(float(i)),
            around=iter([Surroundings(events=file) for _ in range(2)]),
        )
        looker = cluster.client(None, 0)
        looks = watch.ClusterWatch(looker.status)
        for _ in range(3):
            for worker in workers:
                worker.clock += 10
                worker.exchange()
        workers[1].client.leave(finished=True)
        seen = watch.table(looks.view()).splitlines()
        read = status_of(*event_file.read(path)).table().splitlines()
    finally:
        cluster.close()
    assert len(seen) == len(read) == 6
    assert seen[:3] == read[:3]
    for one, other in zip(seen[3:5], read[3:5], strict=True):
        one, other = one.split(None, 9), other.split(None, 9)
        assert one[:3] == other[:3]  # Worker, life and steps.
        assert one[-1] == other[-1]  # Its state.
    assert seen[5].split(",")[0] == read[5].split(",")[0]


# Files that grow.


def test_a_file_is_read_as_it_grows(tmp_path):
    path = tmp_path / "events.jsonl"
    first, second = JOIN.to_json(), PUSH.to_json()
    path.write_text(first + "\n" + second[:30])
    growing = GrowingFile(path)
    assert growing.news() == [JOIN]
    assert growing.news() == []
    with open(path, "a") as file:
        file.write(second[30:])
    assert growing.news() == []
    with open(path, "a") as file:
        file.write("\n" + LEAVE.to_json() + "\n")
    assert growing.news() == [PUSH, LEAVE]
    with open(path, "a") as file:
        file.write("damage\n")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Line 4 of .*events.jsonl"):
            growing.news()


class Terminal(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_following_ends_with_the_run(tmp_path, is_terminal):
    path = tmp_path / "events.jsonl"
    path.write_text(JOIN.to_json() + "\n")
    coming = [PUSH.to_json() + "\n" + LEAVE.to_json()[:20]]
    coming.append(LEAVE.to_json()[20:] + "\n")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        with open(path, "a") as file:
            file.write(coming.pop(0))

    out = Terminal(is_terminal)
    following.follow([path], out, sleep, now=lambda: 27.0)
    assert slept == [1.0, 1.0]
    over = "\033[3A\033[J", "\033[4A\033[J"
    if not is_terminal:
        over = "", ""
    tables = [
        status_of(JOIN).table(27.0),
        status_of(JOIN, PUSH).table(27.0),
        status_of(JOIN, PUSH, LEAVE).table(),
    ]
    assert out.getvalue() == (
        f"{tables[0]}\n{over[0]}{tables[1]}\n{over[1]}{tables[2]}\n"
    )
    assert "silent for 7 s" in tables[1] and "has finished" in tables[2]


def test_the_program_shows_it(tmp_path, capsys, monkeypatch):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    paths[0].write_text(PUSH.to_json() + "\n")
    paths[1].write_text(JOIN.to_json() + "\n" + LEAVE.to_json() + "\n")
    expected = status_of(JOIN, PUSH, LEAVE).table() + "\n"
    assert program.main(["status", *map(str, paths)]) == 0
    assert capsys.readouterr().out == expected
    assert program.main(["status", "--follow", *map(str, paths)]) == 0
    assert capsys.readouterr().out == expected

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(program.time, "sleep", interrupt)
    assert program.main(["status", "--follow", str(paths[0])]) == 130
