"""What the flags of a tree of processes come to."""

import json

import pytest

from tests.train_flags_test import parse
from tests.train_flags_test import tf_config
from tf_elastic.cluster.launch import cluster_tree
from tf_elastic.program import tree_run
from tf_elastic.program import usage


def test_a_tree_of_local_processes():
    settings = parse(
        *("--local_workers=8", "--tree=2", "--local_ps=2"),
        *("--scheme=multi_scale", "--periods=3,30", "--most_waiting=1"),
    )
    assert settings["strategy"] == "elastic_tree"
    tree = tree_run.local(settings)
    assert tree_run.num_nodes(tree) == 7
    told = tree_run.environment(settings, tree)
    given = json.loads(told[cluster_tree.VARIABLE])
    assert given["most_waiting"] == 1 and given["workers"] == 8
    assert given["edges"][-1] == ["worker:7", "ps:6", 3, 3]
    # A star has none.
    star = parse("--local_workers=2")
    assert tree_run.local(star) is None
    assert tree_run.environment(star, None) == {}


def test_periods_follow_the_optimizers():
    settings = parse("--local_workers=4", "--tree=2")
    edges = tree_run.local(settings).edges
    assert {edge.up_period for edge in edges} == {10}
    settings = parse(
        "--local_workers=4", "--tree=2", "--communication_period=4"
    )
    edges = tree_run.local(settings).edges
    assert {(e.up_period, e.down_period) for e in edges} == {(4, 40)}


def test_a_process_of_a_tree_is_told_by_flags_or_by_its_environment(
    monkeypatch,
):
    monkeypatch.delenv(cluster_tree.VARIABLE, raising=False)
    monkeypatch.setenv("TF_CONFIG", tf_config(workers=4))
    settings = parse("--tree=2", "--periods=2,5")
    assert settings["strategy"] == "elastic_tree"
    monkeypatch.setenv(cluster_tree.VARIABLE, "old")
    tree_run.tell_this_process(settings)
    given = json.loads(tree_run.os.environ[cluster_tree.VARIABLE])
    assert given["edges"][-1] == ["worker:3", "ps:2", 2, 5]
    by_environment = parse()
    assert by_environment["strategy"] == "elastic_tree"
    tree_run.tell_this_process(by_environment)
    assert json.loads(tree_run.os.environ[cluster_tree.VARIABLE]) == given
    monkeypatch.delenv(cluster_tree.VARIABLE)
    with pytest.raises(usage.UsageError, match="needs a tree"):
        parse("--strategy=elastic_tree")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--local_workers=4", "--tree=1"], "degree=1"),
        (["--local_workers=2", "--tree=2:3"], "needs at least 8 workers"),
        (
            ["--local_workers=4", "--tree=2", "--periods=0,1"],
            "at least 1.* Received: --periods=0,1",
        ),
        (
            ["--local_workers=4", "--tree=2", "--compression=int8"],
            "a tree exchanges by --scheme",
        ),
        (["--tree=2"], "knows no trees"),
    ],
)
def test_what_is_no_tree_is_refused(flags, message):
    with pytest.raises(usage.UsageError, match=message):
        parse(*flags)
