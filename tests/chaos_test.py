"""Processes killed at random, and that the check of what held is a check."""

import numpy as np
import pytest

from tests import chaos
from tests import chaos_tree
from tests import cluster_support as support
from tests import tree_events
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.timeline import event as happened
from tf_elastic.timeline.event import Event

RATE = support.push_rate(0.9, 2)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_cluster_that_is_killed_at_random_trains_on():
    report = chaos.run(seconds=60, every_s=5, seed=4, least=6)
    print(report.table())
    assert sum(report.kills.values()) >= 6
    assert report.pauses >= 1
    for center in report.centers:
        assert center.applied > center.lost
        assert center.compared > 0
    # A turn of all five has at least a center and a worker among six.
    assert sum(center.processes for center in report.centers) > 2
    assert max(report.incarnations.values()) > 1


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_tree_that_is_killed_at_random_trains_on():
    report = chaos_tree.run(seconds=30, every_s=5, seed=4, least=6)
    print(report.table())
    assert report.kills.total() >= 6
    assert {center.applied > 10 for center in report.centers.values()} == {True}


def told(folder, *events):
    """Of what node 1 has told, a file."""
    path = folder / "events.jsonl"
    lines = [
        Event(kind, 0.0, "center 1", shard=1, **fields).to_json()
        for kind, fields in events
    ]
    path.write_text("\n".join(lines))
    return path


def followed(sequence, version):
    return happened.EXCHANGE, {
        "call": happened.UP,
        "child": "worker 3",
        "incarnation": 1,
        "sequence": sequence,
        "version_applied": version,
        "outcome": happened.APPLIED,
    }


def test_a_message_that_a_node_follows_twice_is_found(tmp_path):
    first, second = followed(1, 0), followed(2, 1)
    restored = (
        happened.BEGIN,
        {"version_applied": 1, "outcome": happened.RESTORED},
    )
    # What a killed process had followed since its snapshot is forgotten.
    path = told(tmp_path, first, second, restored, second)
    [center] = tree_events.check(path).values()
    assert (center.applied, center.lost, center.restored) == (3, 1, 1)
    with pytest.raises(AssertionError, match="twice"):
        tree_events.check(told(tmp_path, first, second, followed(1, 2)))


@pytest.fixture
def shard(tmp_path, monkeypatch):
    """`shard()`: one with a journal, that was offered three numbers."""
    monkeypatch.setenv("CHAOS_FOLDER", str(tmp_path))
    spec = layout.VariableSpec("x", (3,), "float32", layout.PARAMETERS)
    description = layout.Layout([spec], 1).describe()

    made_so_far = []

    def make(begin=True):
        made = chaos.JournaledNode(grace_s=0.0)
        made_so_far.append(made)
        if begin:
            made.join(0, 1, 2, description, "process")
            made.offer(0, 1, -1, True)
            made.initialize(0, 1, -1, [np.ones(3, "float32")])
        return made

    yield make
    for made in made_so_far:
        made.journal.close()


def push(shard, sequence):
    shard.exchanges.push(
        PushId(0, 1, sequence, 0), [np.full(3, 0.1, "float32")], RATE
    )


def check(tmp_path):
    return chaos.check_center(sorted(tmp_path.glob("center-*")))


def restarted(shard, state):
    """A new process that begins with a snapshot."""
    new = shard(begin=False)
    new.restore(*state)
    return new


def test_a_killed_center_goes_back_to_its_snapshot(shard, tmp_path):
    first = shard()
    push(first, 1)
    state = first.snapshot()
    push(first, 2)
    push(first, 3)
    second = restarted(shard, state)
    push(second, 4)
    second.snapshot()
    center = check(tmp_path)
    assert (center.applied, center.lost, center.version) == (4, 2, 2)
    assert center.compared == 3
    np.testing.assert_array_equal(center.arrays[0], second.arrays[0])


def test_a_push_applied_twice_is_found(shard, tmp_path):
    first = shard()
    push(first, 1)
    state = first.snapshot()
    first.registry.members[0].sequence = 0
    push(first, 1)
    with pytest.raises(AssertionError, match="twice"):
        check(tmp_path)
    # One that a killed process takes with it was not.
    restarted(shard, state)
    for path in sorted(tmp_path.glob("center-*"))[:1]:
        path.write_bytes(path.read_bytes()[: -len(b"\n") - 12])
    assert check(tmp_path).version == 1


def test_what_moves_without_a_push_is_found(shard, tmp_path):
    first = shard()
    push(first, 1)
    first.arrays[0] += 1e-6
    first.snapshot()
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check(tmp_path)


def test_a_lost_snapshot_is_found(shard, tmp_path):
    first = shard()
    push(first, 1)
    old = first.snapshot()
    push(first, 2)
    first.snapshot()
    push(first, 3)
    first.snapshot()  # The one before was written to its end.
    restarted(shard, old)
    with pytest.raises(AssertionError, match="at least 2 was kept"):
        check(tmp_path)


def test_a_center_that_forgets_all_is_found(shard, tmp_path):
    first = shard()
    first.snapshot()
    first.snapshot()
    shard()
    with pytest.raises(AssertionError, match="forgotten its snapshots"):
        check(tmp_path)
