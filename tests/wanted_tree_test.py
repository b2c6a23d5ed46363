"""Trees as they are asked for: by words, by files, by flags."""

import pytest

from tf_elastic.core import topology
from tf_elastic.core.topology import TopologyError
from tf_elastic.timeline.wanted_tree import wanted

FOUR = ["here"] * 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("multi_scale", topology.multi_scale(1, 10)),
        ("up_down", topology.up_down(1, 10)),
        ("answered", topology.answered(1, 10)),
    ],
)
def test_schemes_have_names(name, expected):
    assert topology.scheme(name, 1, 10) == expected
    assert topology.scheme(name, 1) == expected


def test_periods_are_the_optimizers_where_none_are_given():
    made = wanted("2", "multi_scale").over(FOUR, 5)
    assert made.up_period("worker:0") == made.down_period("ps:1") == 5
    assert made.up_period("ps:1") == made.down_period("ps:0") == 50
    made = wanted("2", "multi_scale", (1, 3)).over(FOUR, 5)
    assert (made.up_period("worker:0"), made.up_period("ps:1")) == (1, 3)


def test_the_scheme_is_up_down_if_none_is_named():
    assert wanted("2").over(FOUR, 8).edges == (
        wanted("2", topology.up_down(8, 80)).over(FOUR, None).edges
    )


def test_a_topology_is_taken_as_it_is():
    made = topology.tree(2, 2, topology.answered(1))
    assert wanted(made).over(FOUR, None) is made


def test_a_file_needs_no_periods_if_it_has_all(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text("- [worker:0, ps:0, 1, 1]\n- [worker:1, ps:0, 1, 1]\n")
    assert wanted(path).over(["a", "b"], None).leaves == (
        *("worker:0", "worker:1"),
    )
    path.write_text("- [worker:0, ps:0]\n- [worker:1, ps:0]\n")
    with pytest.raises(TopologyError, match="line 1: .*`up_period`"):
        wanted(path).over(["a", "b"], None)
    assert wanted(path).over(["a", "b"], 7).up_period("worker:1") == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2", "fast"), "`scheme` must be one of multi_scale.*scheme='fast'"),
        (("2", "up_down", (1, 0)), r"`periods` must be two.*\(1, 0\)"),
        (("2", "up_down", (1,)), r"two integers.*periods=\(1,\)"),
        (("2", "up_down", "10"), "two integers.*periods='10'"),
        (("2", topology.up_down(1, 2), (1, 2)), "has its periods"),
        (("1",), "`degree` must be an integer >= 2"),
        ((2,), "`topology` must be a topology.*topology=2"),
        ((topology.star(2, 1), "up_down"), "has all periods.*'up_down'"),
    ],
)
def test_what_is_no_tree_is_refused(arguments, message):
    with pytest.raises(TopologyError, match=message):
        wanted(*arguments)


def test_periods_have_to_be_known():
    with pytest.raises(TopologyError, match=r"periods=\(1, 10\), say"):
        wanted("2").over(FOUR, None)
