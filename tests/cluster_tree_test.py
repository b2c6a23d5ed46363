"""Where the tasks of a cluster are in a tree, and which trees are refused."""

import json

import pytest

from tf_elastic.cluster.launch import cluster_tree
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import ClusterConfigurationError
from tf_elastic.core import topology as topologies
from tf_elastic.core.topology import TopologyError

SCHEME = topologies.multi_scale(10, 100)
NODE = 1 << 20  # the number of the root


def configuration(role="worker", index=0, workers=4, centers=3):
    return ClusterConfiguration(
        tuple(f"w{i}:1" for i in range(workers)),
        tuple(f"c{i}:1" for i in range(centers)),
        (),
        role,
        index,
    )


def tree(text="2", **where):
    return cluster_tree.from_environment(configuration(**where), text)


def test_places_of_two_shards():
    made = tree(role="ps", index=4, centers=6)
    assert (made.num_shards, made.shard, made.root) == (2, 0, ("c0:1", "c1:1"))
    place = made.own_place
    assert (place.name, place.number) == ("ps:2", NODE + 2)
    assert place.parents == (("c0:1", "c1:1"),)
    assert place.children == (2, 3)
    assert (place.siblings, place.begins) == (2, False)
    assert made.place("ps:1").begins and made.place("ps:0").parents == ()
    leaf = tree(index=3, centers=6).own_place
    assert leaf.parents == (("c4:1", "c5:1"), ("c0:1", "c1:1"))
    assert (leaf.number, leaf.down_period, leaf.children) == (3, None, ())


def test_periods_are_those_of_the_edges_and_of_dead_parents():
    text = '{"tree": "2", "scheme": "multi_scale", "periods": [3, 30]}'
    leaf = tree(text).own_place
    assert (leaf.up_period, leaf.further_periods) == (3, (30,))
    node = tree(text, role="ps", index=1)
    settings = node.settings()
    assert (settings.up_period, settings.down_period) == (30, 3)
    assert settings.moving_rate is None and settings.most_waiting == 4
    assert set(settings.chiefs) == {0, NODE, NODE + 1}


def test_the_text_of_a_tree_makes_the_same_one():
    made = tree("2", workers=8, centers=7)
    text = cluster_tree.text_of(made.topology, 1, 5.0, workers=8)
    again = tree(text, workers=8, centers=7)
    assert again.topology.edges == made.topology.edges
    assert (again.most_waiting, again.move_s) == (1, 5.0)
    # One worker more joins them: where the first one is.
    grown = tree(text, index=8, workers=9, centers=7).own_place
    assert (grown.name, grown.number) == ("worker:8", 8)
    assert grown.parents == again.place("worker:0").parents
    assert not grown.begins
    with pytest.raises(TopologyError, match="worker:8"):
        tree(json.dumps(made.topology.to_json()), workers=9, centers=7)


def test_workers_of_one_host_are_under_one_parent():
    workers = ("a:1", "b:1", "a:2", "b:2")
    made = cluster_tree.from_environment(
        ClusterConfiguration(workers, ("c:1", "c:2", "c:3"), (), "worker", 0),
        "2",
    )
    assert made.topology.children("ps:1") == ("worker:0", "worker:2")


def test_no_tree_is_none(monkeypatch):
    monkeypatch.delenv(cluster_tree.VARIABLE, raising=False)
    assert cluster_tree.from_environment(configuration()) is None
    assert tree(" ") is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("1", TopologyError, "degree=1"),
        ("2:3", TopologyError, "needs at least 8 workers"),
        ("2:1", ClusterConfigurationError, None),
        ("{", TopologyError, "is none"),
        ("{}", TopologyError, "Received: nothing"),
        ('{"tree": "2", "edges": []}', TopologyError, "edges, tree"),
        ('{"tree": "2", "periode": [1, 2]}', TopologyError, "periode"),
        ('{"tree": "2", "most_waiting": 0}', ValueError, "most_waiting=0"),
        ('{"tree": "2", "move_s": 0}', TopologyError, "move_s=0"),
        ('{"tree": "2", "periods": [0, 1]}', TopologyError, "0"),
        ('{"tree": "2", "scheme": "x"}', TopologyError, "'x'"),
        ('[["worker:0", "ps:0"]]', TopologyError, "must be a list of"),
        ('[["worker:0", "ps:0", 1, 1]]', TopologyError, "worker:1"),
        (
            '[["worker:0", "ps:1", 1, 1], ["ps:1", "worker:0", 1, 1]]',
            TopologyError,
            "a loop at 'worker:0'",
        ),
    ],
)
def test_what_is_refused(text, error, message):
    if message is None:  # 2 nodes cannot share 3 tasks; 1 can.
        assert tree(text).num_shards == 3
        with pytest.raises(error, match="4 of them"):
            tree("2", centers=4)
        return
    with pytest.raises(error, match=message):
        tree(text)


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        (["[worker:0, ps:0]"], 1, "at least 2 children"),
        (
            ["[worker:0, ps:0]", "[worker:1, ps:0]", "[ps:1, ps:2]"],
            3,
            "one node that is nobody's child",
        ),
        (
            ["[worker:0, ps:0]", "[worker:1, ps:0]", "[ps:1, ps:1]"],
            3,
            "a loop",
        ),
        (["[worker:0, ps:0, 0, 1]", "[worker:1, ps:0, 1, 1]"], 1, "period=0"),
    ],
)
def test_a_file_that_is_no_tree_is_refused_by_its_line(
    tmp_path, lines, line, message
):
    path = tmp_path / "tree.yaml"
    path.write_text("".join(f"- {each}\n" for each in lines))
    with pytest.raises(TopologyError, match=f"line {line}: .*{message}"):
        tree(str(path))


def test_a_leaf_that_is_nobodys_child_is_named(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text("- [worker:0, ps:0]\n- [worker:1, ps:0]\n")
    with pytest.raises(TopologyError, match=r"worker:2.*worker:3"):
        tree(str(path), centers=1)
