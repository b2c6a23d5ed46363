"""The flags of a tree: what they ask for, and what is refused."""

import pytest

from tf_elastic.program import settings
from tf_elastic.program import tree_checks
from tf_elastic.program import usage
from tf_elastic.program import virtual_checks


def parse(*args):
    return settings.parse(["train.py", *args])


@pytest.mark.parametrize(
    "flag", ["tree=2", "scheme=up_down", "periods=1,10", "most_waiting=1"]
)
def test_one_process_is_no_tree(flag):
    with pytest.raises(
        usage.UsageError, match="strategy=elastic_mirrored knows no trees"
    ):
        parse(f"--{flag}")


VIRTUAL = ("--virtual_workers=4", "--tree=2")


def test_what_a_virtual_tree_is_made_with():
    found = parse(*VIRTUAL, "--scheme=answered", "--periods=2, 5")
    assert tree_checks.arguments(found) == {
        "topology": "2",
        "scheme": "answered",
        "periods": (2, 5),
        "most_waiting": 4,
    }
    assert found["communication_period"] == "2"
    assert tree_checks.arguments(parse("--virtual_workers=4")) == {}
    assert parse(*VIRTUAL)["communication_period"] == "10"
    found = parse(*VIRTUAL, "--periods=2,5", "--communication_period=3")
    assert found["communication_period"] == "3"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--tree=1",), "`degree` must be an integer >= 2"),
        (("--tree=2:4",), "at least 16 workers"),
        (("--tree=no_such_file",), "no_such_file"),
        (("--tree=2", "--periods=1;2"), "--periods must be two integers"),
        (("--tree=2", "--periods=1,0"), "--periods must be two integers"),
        (("--tree=2", "--periods=1"), "`periods` must be two"),
        (("--tree=2", "--most_waiting=0"), "--most_waiting must be"),
        (("--tree=2", "--protocol=blocking"), "exchanges by --scheme"),
        (("--tree=2", "--scheme=rounds"), "scheme"),
        (("--tree=2", "--quorum=2"), "--quorum has no effect here"),
        (("--scheme=up_down",), "or give --tree=4, say"),
    ],
)
def test_what_is_no_virtual_tree_is_refused(args, message):
    with pytest.raises(usage.UsageError, match=message):
        parse("--virtual_workers=4", *args)


def test_a_file_has_a_leaf_for_each_worker(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text("- [worker:0, ps:0]\n- [worker:1, ps:0]\n")
    parse("--virtual_workers=2", f"--tree={path}")
    with pytest.raises(usage.UsageError, match="2 leaves"):
        parse("--virtual_workers=3", f"--tree={path}")
    path.write_text("- [worker:0, ps:0]\n- [worker:0, ps:1]\n")
    with pytest.raises(usage.UsageError, match="line 2"):
        parse("--virtual_workers=2", f"--tree={path}")


@pytest.mark.parametrize("scheme", ["synchronous", "accumulated"])
def test_schemes_of_virtual_clusters_alone(scheme):
    found = parse(*VIRTUAL, f"--scheme={scheme}", "--periods=2,30")
    assert tree_checks.arguments(found)["periods"] == (2, 30)
    with pytest.raises(usage.UsageError, match="is of a virtual cluster"):
        parse("--local_workers=4", "--tree=2", f"--scheme={scheme}")


def test_inner_nodes_of_a_virtual_tree_may_die(tmp_path):
    path = tmp_path / "timing.json"
    path.write_text('{"step": 1.0, "node_deaths": [[1, 1, 9.0]], "move_s": 5}')
    timing = f"--timing={path}"
    found = virtual_checks.read_timing(parse(*VIRTUAL, timing))
    assert found.node_deaths == ((1, 1, 9.0),) and found.move_s == 5
    assert tree_checks.inner_per_level(parse(*VIRTUAL)) == [2]
    with pytest.raises(usage.UsageError, match="inner nodes of a tree"):
        parse("--virtual_workers=4", timing)
    path.write_text('{"step": 1.0, "node_deaths": [[1, 2, 9.0]]}')
    with pytest.raises(usage.UsageError, match="Received: level 1, index 2"):
        parse(*VIRTUAL, timing)
