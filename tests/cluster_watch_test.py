"""What is seen of a cluster: real servers and clients, no TensorFlow."""

import numpy as np
import pytest

from tests import cluster_support as support
from tf_elastic.cluster import watch
from tf_elastic.cluster.worker import exchanger


@pytest.fixture
def cluster():
    made = support.Cluster(num_shards=2)
    yield made
    made.close()


@pytest.fixture
def looker(cluster):
    """A client that only looks."""
    return cluster.client(None, 0)


def move(worker, clock, samples):
    """One blocking exchange, told at this clock."""
    worker.obey(
        worker.exchanger.now(exchanger.Moment(clock, samples), worker.sent())
    )


def start(i):
    return support.values(float(i))


def test_a_center_without_workers(looker):
    view = watch.ClusterWatch(looker.status).view()
    assert [status["version"] for status in view.statuses] == [0, 0]
    assert view.members == {}
    assert view.staleness.ms.size == 0
    assert watch.scalars(view)["cluster/num_workers"] == 1
    assert watch.table(view).count("\n") == 1


def test_pushes_are_seen_once_each(cluster, looker):
    workers = cluster.workers(2, start)
    looks = watch.ClusterWatch(looker.status)
    for clock in (1, 2, 3):
        for worker in workers:
            move(worker, clock, 10 * clock)
    view = looks.view()
    assert view.staleness.versions.shape == (6,)
    # Read and pushed at once: nobody else was in between.
    assert not view.staleness.versions.any()
    assert (view.staleness.ms >= 0).all()
    assert looks.view().staleness.ms.size == 0
    move(workers[1], 4, 40)
    assert looks.view().staleness.ms.size == 1


def test_staleness_counts_the_pushes_in_between(cluster, looker):
    # Overlapped: the version that a worker pushes on is that of its last
    # answer, and the other one has pushed since.
    first, second = cluster.workers(2, start, protocol="overlapped")
    looks = watch.ClusterWatch(looker.status)
    first.overlap()
    second.overlap()
    looks.view()
    first.overlap()
    second.overlap()
    second.overlap()
    assert looks.view().staleness.versions.tolist() == [1, 1, 0]


def test_members_with_what_they_tell(cluster, looker):
    workers = cluster.workers(2, start)
    looks = watch.ClusterWatch(looker.status)
    looks.view()
    for worker in workers:
        move(worker, 20, 640)
        client = worker.client
        client.notes = watch.notes_of(client.counts, client, 0.25)

    def told():
        view = looks.view()
        notes = [member["notes"] for member in view.members.values()]
        return all("loss" in each for each in notes) and view

    view = support.until(told)
    assert sorted(view.members) == [0, 1]
    scalars = watch.scalars(view)
    assert scalars["cluster/num_workers"] == 2
    assert scalars["cluster/version"] == 2
    assert scalars["cluster/center_servers_away"] == 0
    sections = support.N + support.STATISTICS
    for worker in (0, 1):
        tags = {
            tag.removeprefix(f"worker_{worker}/"): value
            for tag, value in scalars.items()
            if tag.startswith(f"worker_{worker}/")
        }
        assert tags["loss"] == 0.25
        assert tags["clock"] == 20
        assert tags["exchanges"] == 1
        assert tags["missed"] == tags["lost_halves"] == 0
        assert tags["distance"] == pytest.approx(
            workers[worker].client.counts.distance
        )
        # float64, at least once in each direction.
        assert tags["bytes_sent"] >= 8 * sections
        assert tags["bytes_received"] >= 8 * sections
        assert tags["wait_s"] > 0
        assert tags["steps_per_s"] >= 0
        assert tags["samples_per_s"] >= 0


class Clock:
    """A look that says how many steps were taken, one second apart."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.members = {}
        self.staleness = []
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)

    def __call__(self):
        first = {
            "version": 1,
            "num_workers": len(self.members),
            "applied": 0,
            "members": self.members,
            "staleness": self.staleness,
        }
        return [first]

    def member(self, worker, incarnation, clock, samples):
        self.members[str(worker)] = {
            "incarnation": incarnation,
            "clock": clock,
            "samples": samples,
            "present": True,
            "silent_s": 0.1,
            "notes": {},
        }


def test_rates_since_the_last_look(monkeypatch):
    clock = Clock(monkeypatch)
    clock.member(0, 1, 100, 3200)
    looks = watch.ClusterWatch(clock)
    assert looks.view().steps_per_s == {}  # Nothing to compare with.
    clock.now += 2.0
    clock.member(0, 1, 110, 3520)
    clock.member(1, 1, 5, 160)
    view = looks.view()
    assert view.steps_per_s == {0: 5.0}
    assert view.samples_per_s == {0: 160.0}
    # Started again: its clock began anew, and says nothing of its speed.
    clock.now += 2.0
    clock.member(1, 2, 1, 32)
    view = looks.view()
    assert view.steps_per_s == {0: 0.0}


def test_a_center_that_has_begun_anew_counts_from_one(monkeypatch):
    clock = Clock(monkeypatch)
    looks = watch.ClusterWatch(clock)
    clock.staleness = [[k, 0, 0, 1.0] for k in range(1, 9)]
    assert looks.view().staleness.ms.size == 8
    clock.staleness = [[1, 0, 3, 7.0], [2, 0, 4, 8.0]]
    view = looks.view()
    assert view.staleness.versions.tolist() == [3, 4]
    assert view.staleness.ms.tolist() == [7.0, 8.0]


def test_the_table(cluster, looker):
    workers = cluster.workers(2, start)
    move(workers[0], 12, 384)
    client = workers[0].client
    client.notes = {
        **watch.notes_of(client.counts, client, 0.5),
        "wait_share": 0.125,
    }
    looks = watch.ClusterWatch(looker.status)

    def rows():
        lines = watch.table(looks.view()).splitlines()
        return "0.5000" in lines[3] and lines

    lines = support.until(rows)
    assert lines[0].startswith("center 0: version 1, p = 2, 1 pushes applied")
    assert lines[1].startswith("center 1: version 1")
    assert lines[2].split()[:4] == ["worker", "life", "steps", "steps/s"]
    assert lines[3].split()[:3] == ["0", "1", "12"]
    assert "12.5%" in lines[3] and lines[3].endswith("trains")
    assert lines[4].split()[0] == "1" and " - " in lines[4]

    workers[0].client.leave(finished=True)
    workers[1].client.leave()
    lines = watch.table(looks.view()).splitlines()
    assert lines[3].endswith("has finished")
    assert lines[4].endswith("is gone")


def test_one_that_is_silent(monkeypatch):
    clock = Clock(monkeypatch)
    clock.member(10, 1, 7, 7)
    clock.member(2, 1, 8, 8)
    clock.members["2"]["silent_s"] = 12.4
    lines = watch.table(watch.ClusterWatch(clock).view()).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["2", "10"]
    assert lines[2].endswith("silent for 12 s")


def test_servers_that_are_away(cluster, looker):
    looks = watch.ClusterWatch(looker.status)
    cluster.servers[0].stop(0.0)
    view = looks.view()
    assert view.statuses[0] is None
    assert view.first["shard"] == 1
    assert watch.scalars(view)["cluster/center_servers_away"] == 1
    assert watch.table(view).startswith("center 0 is away\ncenter 1: ")
    cluster.servers[1].stop(0.0)
    view = looks.view()
    assert view.first is None and view.members == {}
    assert watch.scalars(view) == {"cluster/center_servers_away": 2}


def test_a_loss_that_is_not_finite_is_not_told(cluster):
    client = cluster.client(0)
    for loss in (None, float("nan"), np.inf):
        assert "loss" not in watch.notes_of(client.counts, client, loss)
    assert watch.notes_of(client.counts, client, np.float32(2))["loss"] == 2.0


def test_p_after_all_have_finished_is_of_those_that_go_on(cluster, looker):
    workers = cluster.workers(3, start)
    for worker in workers:
        move(worker, 1, 32)
        worker.client.leave(finished=True)
    status = looker.status()[0]
    assert (status["num_workers"], status["total_samples"]) == (3, 96)
    # Another run, of one worker, begins where that one has ended.
    again = cluster.client(0, 1)
    again.join(cluster.layout, start(0))
    status = looker.status()[0]
    assert (status["num_workers"], status["total_samples"]) == (1, 96)
