"""A tree of processes under `train.py`, of which some are killed."""

import collections
import io
import json
import signal
import sys

import pytest

from tests import chaos
from tests import cluster_support as support
from tests import forking
from tests import source_tree
from tests import tree_events
from tf_elastic.cluster.launch import cluster_tree
from tf_elastic.cluster.launch.local import LocalCluster
from tf_elastic.core import topology as topologies
from tf_elastic.core import tree_of_workers
from tf_elastic.timeline import event_file
from tf_elastic.timeline import verify

WORKERS, NODES = 4, 3
WAIT_S = 240.0


@pytest.mark.timeout(600)
def test_a_tree_goes_on_when_its_nodes_are_killed(tmp_path):
    """An inner node, then the root: digits are learned all the same."""
    tree = tree_of_workers.over(
        ["here"] * WORKERS,
        tree_of_workers.TreeShape(2),
        topologies.multi_scale(5, 10),
    )
    events = tmp_path / "events.jsonl"
    report = tmp_path / "report.json"
    enough = tmp_path / "enough"
    command = [
        sys.executable,
        str(source_tree.ROOT / "tests" / "train_until.py"),
        str(enough),
        "20",
        "--strategy=elastic_tree",
        "--device=cpu",
        f"--report={report}",
    ]
    cluster = LocalCluster(
        command,
        WORKERS,
        NODES,
        tmp_path / "logs",
        env={
            cluster_tree.VARIABLE: cluster_tree.text_of(tree),
            event_file.VARIABLE: str(events),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_NUM_INTRAOP_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "-1",
        },
        center_command=[
            *(sys.executable, "-m", "tf_elastic.cluster.ps"),
            "--snapshot_interval_s=0.5",
        ],
        snapshot_dir=tmp_path / "snapshots",
        preload=forking.MODULES,
        output=io.StringIO(),
    )
    pids = set()
    with cluster:
        for killed in (1, 0):  # an inner node; the root
            tree_events.until_followed(events, range(NODES), 5, WAIT_S, cluster)
            pids.add(cluster.kill("ps", killed))
            support.until(
                lambda killed=killed: cluster.process("ps", killed).restarts,
                WAIT_S,
            )
        tree_events.until_followed(events, range(NODES), 5, WAIT_S, cluster)
        enough.touch()
        status = cluster.wait(WAIT_S)
        pids.update(process.pid for process in cluster.processes())
    told = cluster.process("worker", 0).last_lines()
    assert status == 0, told
    # No process is left.
    assert not any(chaos.runs(pid) for pid in pids)
    codes = collections.Counter(
        code for p in cluster.processes("ps") for code in p.exit_codes
    )
    assert codes[-signal.SIGKILL] == 2
    # Nothing was applied twice.
    found = tree_events.check(events)
    assert set(found) == set(range(NODES))
    assert found[0].restored == found[1].restored == 1
    assert all(center.applied > 10 for center in found.values())
    # All of it can have been so.
    wrong = verify.verify(verify.entries(events))
    assert [str(violation) for violation in wrong[:20]] == []
    # And it has learned.
    made = json.loads(report.read_text())
    assert made["center"]["test_accuracy"] > 0.9, told
