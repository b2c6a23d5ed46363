"""Trees: of nodes, over the workers of a cluster, and in files."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_elastic.core import topology
from tf_elastic.core import tree_of_workers
from tf_elastic.core.tree_of_workers import TreeShape
from tf_elastic.timeline import tree_file

MULTI_SCALE = topology.multi_scale(leaf_period=10, upper_period=100)
UP_DOWN = topology.up_down(up_period=8, down_period=80)


def test_a_star_answers():
    star = topology.star(3, 10)
    assert star.root == "root"
    assert star.leaves == ("0", "1", "2")
    assert star.inner == ()
    assert star.depth == 1
    assert star.edge_of("1") == ("1", "root", 10, None)
    assert star.down_period("root") is None
    assert topology.star(1, 10).leaves == ("0",)


def test_the_first_scheme_is_fast_at_the_leaves():
    tree = topology.tree(3, 3, MULTI_SCALE)
    assert len(tree.leaves) == 27
    assert tree.depth == 3
    assert tree.children("root") == ("0", "1", "2")
    assert tree.edge_of("2") == ("2", "root", 100, 100)
    assert tree.edge_of("2.1") == ("2.1", "2", 100, 100)
    assert tree.edge_of("2.1.0") == ("2.1.0", "2.1", 10, 10)
    assert tree.up_period("root") is None
    assert tree.down_period("root") == tree.down_period("2") == 100
    assert tree.down_period("2.1") == 10
    assert tree.down_period("2.1.0") is None
    assert tree.ancestors("2.1.0") == ("2.1", "2", "root")
    assert tree.inner[:3] == ("0", "1", "2")
    assert len(tree.inner) == 12


def test_the_second_scheme_is_the_same_everywhere():
    tree = topology.tree(2, 3, UP_DOWN)
    assert {edge[2:] for edge in tree.edges} == {(8, 80)}


def test_periods_of_each_level():
    levels = [topology.Periods(1, 2), topology.Periods(3, 4)]
    scheme = topology.Scheme("own", tuple(levels))
    tree = topology.tree(2, 3, scheme)
    assert tree.edge_of("0.0.0")[2:] == (1, 2)
    assert tree.edge_of("0.0")[2:] == tree.edge_of("0")[2:] == (3, 4)


def test_answers():
    tree = topology.tree(2, 2, topology.answered(5, 20))
    assert tree.edge_of("0.0")[2:] == (5, None)
    assert tree.edge_of("0")[2:] == (20, None)
    assert topology.answered(5).periods(3) == (5, None)


@pytest.mark.parametrize(
    ("edges", "message", "nodes"),
    [
        ([], "the root. Received: none", ()),
        ([("a", "r", 1), ("a", "s", 1)], "several for \\['a'\\]", ("a",)),
        ([("a", "r", 1), ("b", "s", 1)], "\\['r', 's'\\]", ("r", "s")),
        (
            [("a", "b", 1), ("b", "a", 1), ("c", "r", 1)],
            "a loop at 'a'",
            ("a",),
        ),
        ([("a", "a", 1)], "a loop at 'a'|Received: none", None),
        ([("a", "r", 0)], "up_period=0 of 'a'", ("a",)),
        ([("a", "r", 1, 2.5)], "down_period=2.5 of 'a'", ("a",)),
        ([("a", "r", 1, 2), ("b", "r", 1, 3)], "2 of 'a' and 3 of 'b'", ("b",)),
    ],
)
def test_what_is_no_tree(edges, message, nodes):
    with pytest.raises(topology.TopologyError, match=message) as raised:
        topology.Topology([topology.Edge(*edge) for edge in edges])
    if nodes is not None:
        assert raised.value.nodes == nodes


@pytest.mark.parametrize(
    ("degree", "depth", "message"),
    [
        (1, 2, "`degree` must be an integer >= 2.* degree=1"),
        (2.0, 2, "degree=2.0"),
        (2, 0, "`depth` must be an integer >= 1. Received: depth=0"),
    ],
)
def test_arguments_of_a_tree(degree, depth, message):
    with pytest.raises(topology.TopologyError, match=message):
        topology.tree(degree, depth, MULTI_SCALE)


# Over the workers of a cluster.


def test_eight_workers_of_one_host():
    made = tree_of_workers.over(["a"] * 8, TreeShape(2), MULTI_SCALE)
    assert made.root == "ps:0"
    assert made.depth == 3
    assert tree_of_workers.num_nodes(made) == 7
    assert made.children("ps:0") == ("ps:1", "ps:2")
    assert made.children("ps:2") == ("ps:5", "ps:6")
    assert made.children("ps:6") == ("worker:6", "worker:7")
    tree_of_workers.check_names(made, 8, 7)


def test_leaves_of_one_host_are_under_one_parent():
    hosts = ["a", "b", "a", "c", "b", "d", "a", "b"]
    made = tree_of_workers.over(hosts, TreeShape(3), UP_DOWN)
    assert made.children("ps:1") == ("worker:0", "worker:2", "worker:6")
    assert made.children("ps:2") == ("worker:1", "worker:4", "worker:7")
    assert made.children("ps:3") == ("worker:3", "worker:5")
    # One alone joins the others.
    made = tree_of_workers.over(["a", "a", "b"], TreeShape(2), UP_DOWN)
    assert made.children("ps:0") == ("worker:0", "worker:1", "worker:2")


def test_a_depth_deals_out_the_workers():
    made = tree_of_workers.over(["a"] * 256, TreeShape(16, 2), UP_DOWN)
    assert tree_of_workers.num_nodes(made) == 17
    assert len(made.children("ps:16")) == 16
    made = tree_of_workers.over(["a"] * 5, TreeShape(2, 2), UP_DOWN)
    assert made.children("ps:1") == ("worker:0", "worker:1")
    assert made.children("ps:2") == ("worker:2", "worker:3", "worker:4")
    made = tree_of_workers.over(["a"] * 3, TreeShape(8, 1), UP_DOWN)
    assert made.children("ps:0") == ("worker:0", "worker:1", "worker:2")


@given(
    st.lists(st.sampled_from("abcdef"), min_size=2, max_size=60),
    st.integers(2, 9),
)
def test_each_node_has_children_enough(hosts, degree):
    made = tree_of_workers.over(hosts, TreeShape(degree), UP_DOWN)
    nodes = tree_of_workers.num_nodes(made)
    tree_of_workers.check_names(made, len(hosts), nodes)
    for node in (made.root, *made.inner):
        assert len(made.children(node)) >= 2
        names = made.children(node)
        assert len({name.split(":")[0] for name in names}) == 1
    assert {made.level(leaf) for leaf in made.leaves} == {made.depth}


@pytest.mark.parametrize(
    ("text", "expected"), [("2", (2, None)), ("16:2", (16, 2))]
)
def test_shapes(text, expected):
    assert tree_of_workers.shape(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Received: ''"),
        ("2:", "Received: '2:'"),
        ("2:2:2", "Received: '2:2:2'"),
        ("two", "Received: 'two'"),
        ("-2", "Received: '-2'"),
        ("1", "degree=1"),
        ("1:3", "degree=1"),
        ("2:0", "depth=0"),
    ],
)
def test_what_is_no_shape(text, message):
    with pytest.raises(topology.TopologyError, match=message):
        tree_of_workers.shape(text)


def test_too_few_workers():
    with pytest.raises(topology.TopologyError, match="num_workers=1"):
        tree_of_workers.over(["a"], TreeShape(2), UP_DOWN)
    with pytest.raises(topology.TopologyError, match="at least 8 workers"):
        tree_of_workers.over(["a"] * 7, TreeShape(2, 3), UP_DOWN)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("worker:0", "ps:0", 1), ("worker:2", "ps:0", 1)], "'worker:2'"),
        ([("worker:0", "ps:0", 1)], "none for \\['worker:1'\\]"),
        (
            [("worker:0", "ps:1", 1), ("worker:1", "ps:1", 1)],
            "nodes with children .* \\['ps:1'\\]",
        ),
    ],
)
def test_names_that_are_no_tasks(edges, message):
    made = topology.Topology([topology.Edge(*edge) for edge in edges])
    with pytest.raises(topology.TopologyError, match=message):
        tree_of_workers.check_names(made, 2, 1)


def test_the_root_is_the_first():
    edges = [("worker:0", "ps:0"), ("worker:1", "ps:0"), ("ps:0", "ps:1")]
    edges += [("worker:2", "ps:1")]
    made = topology.Topology([topology.Edge(*edge, 1) for edge in edges])
    with pytest.raises(topology.TopologyError, match="root must be 'ps:0'"):
        tree_of_workers.check_names(made, 3, 2)


# In files.

FILE = """\
# Two hosts.
- {child: ps:1, parent: ps:0, up_period: 30}
- {child: ps:2, parent: ps:0}
- [worker:0, ps:1]
- [worker:1, ps:1]
- [worker:2, ps:2, 5]
- [worker:3, ps:2, 5, 10]
"""


def test_a_file(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text(FILE)
    made = tree_file.read(path, MULTI_SCALE)
    assert made.root == "ps:0"
    assert made.edge_of("ps:1")[2:] == (30, 100)
    assert made.edge_of("ps:2")[2:] == (100, 100)
    assert made.edge_of("worker:1")[2:] == (10, 10)
    assert made.edge_of("worker:2")[2:] == (5, 10)
    tree_of_workers.check_names(made, 4, 3)


def test_what_to_json_gives_is_a_file(tmp_path):
    path = tmp_path / "tree.json"
    tree = topology.tree(2, 2, UP_DOWN)
    path.write_text(json.dumps(tree.to_json()))
    assert tree_file.read(path).edges == tree.edges


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("up_period: 30", "up_period: 0", "line 2: .*up_period=0 of 'ps:1'"),
        ("[worker:3, ps:2, 5, 10]", "[worker:3, ps:2, 5, 11]", "line 7: All"),
        ("[worker:0, ps:1]", "[worker:0]", "line 4: An edge must be"),
        ("[worker:0, ps:1]", "worker:0", "line 4: An edge must be a mapping"),
        ("[worker:0, ps:1]", "[worker:0, 1]", "line 4: `parent` .*parent=1"),
        ("[worker:0, ps:1]", "[worker:1, ps:1]", "line 5: .*several"),
        ("[worker:0, ps:1]", "[worker:0, ps:2]", "line 5: .*at least 2"),
        ("[worker:0, ps:1]", "[worker:0, ps:3]", "line [247]: .*nobody's"),
        (
            "parent: ps:0, up_period",
            "parent: ps:1, up_period",
            "line 2: .*loop",
        ),
        ("up_period: 30", "period: 30", "line 2: .*Received: 'period'"),
        ("{child: ps:2", "child: ps:2}", "is no YAML"),
    ],
)
def test_the_line_at_fault_is_told(tmp_path, old, new, message):
    path = tmp_path / "tree.yaml"
    assert old in FILE
    path.write_text(FILE.replace(old, new))
    with pytest.raises(topology.TopologyError, match=message) as raised:
        tree_file.read(path, MULTI_SCALE)
    assert str(raised.value).startswith(str(path))


def test_periods_must_come_from_somewhere(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text(FILE)
    with pytest.raises(topology.TopologyError, match="line 3: .*'ps:2'"):
        tree_file.read(path)
    path.write_text("")
    with pytest.raises(topology.TopologyError, match="must be a list of edges"):
        tree_file.read(path)
