"""Trees as users ask for them."""

import json

import pytest

from tf_elastic.core import topology
from tf_elastic.core.topology import TopologyError
from tf_elastic.timeline import tree_setting
from tf_elastic.timeline.tree_setting import TreeSetting

HOSTS = ["a", "a", "b", "b"]


def periods(made):
    """(up, down) of a leaf's edge and of one above."""
    edges = made.edge_of("worker:0"), made.edge_of("ps:1")
    return [(edge.up_period, edge.down_period) for edge in edges]


def test_schemes_by_name():
    for scheme, given, first, expected in (
        ("multi_scale", None, None, [(10, 10), (100, 100)]),
        ("multi_scale", None, 4, [(4, 4), (40, 40)]),
        ("up_down", None, None, [(1, 10), (1, 10)]),
        ("up_down", (8, 80), None, [(8, 80), (8, 80)]),
        ("answered", (2, 6), None, [(2, None), (6, None)]),
        (topology.up_down(3, 5), None, None, [(3, 5), (3, 5)]),
    ):
        made = TreeSetting("2", scheme, given).topology(HOSTS, first)
        assert periods(made) == expected
        assert made.children("ps:1") == ("worker:0", "worker:1")


def test_a_topology_is_taken_as_it_is_and_goes_through_json():
    made = TreeSetting("2:2", "up_down").topology(HOSTS)
    assert TreeSetting(made, "none").topology([]) is made
    again = tree_setting.edges_of(json.loads(json.dumps(made.to_json())))
    assert again.edges == made.edges


def test_a_file_is_read_by_the_scheme(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text("- [a, r]\n- [b, r]\n")
    made = TreeSetting(path, "up_down", (2, 7)).topology(HOSTS)
    assert made.edge_of("a") == ("a", "r", 2, 7)
    path.write_text("- [a, r]\n- [b, r, 0, 7]\n")
    with pytest.raises(TopologyError, match="line 2: .*up_period=0"):
        TreeSetting(path, "up_down", (2, 7)).topology(HOSTS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (TreeSetting("1"), "degree=1"),
        (TreeSetting("-2:3"), "Received: '-2:3'"),
        (TreeSetting("2", "round"), "scheme='round'"),
        (TreeSetting("2", "up_down", (1,)), r"periods=\(1,\)"),
        (TreeSetting("2", "up_down", (1, 0)), r"periods=\(1, 0\)"),
        (TreeSetting("2", topology.up_down(1, 2), (1, 2)), "Leave one out"),
    ],
)
def test_what_is_no_tree_is_refused(setting, message):
    with pytest.raises(TopologyError, match=message):
        setting.topology(HOSTS)


@pytest.mark.parametrize("rows", [{}, [["a", "b"]], [1]])
def test_edges_that_are_none(rows):
    with pytest.raises(TopologyError, match="Edges must be"):
        tree_setting.edges_of(rows)
