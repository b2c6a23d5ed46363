"""A tree of processes that is killed at random, and what must hold.

    python -m tests.chaos_tree --seconds=300 --seed=3

Leaves train with stock `fit`; every few seconds a leaf, an inner node or the
root gets SIGKILL and is started again. At the end:

* **Nothing is followed twice.** What the nodes tell of the messages that they
  followed has no child's incarnation and number twice, but for what a killed
  process had followed after its last snapshot.
* **A restarted node goes on from a snapshot**, once there was one.
* **Training goes on.** After the last kill every node follows its children
  again, and the root's loss is below that of the beginning.
* **No process is left.**
"""

import argparse
import collections
import io
import pathlib
import sys
import tempfile
import time

import numpy as np

from tests import chaos
from tests import tree_events
from tf_elastic.cluster import errors
from tf_elastic.cluster.launch import cluster_tree
from tf_elastic.cluster.launch.local import LocalCluster
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.worker import client
from tf_elastic.core import topology as topologies
from tf_elastic.core import tree_of_workers
from tf_elastic.timeline import event_file

LEAVES, NODES = 4, 3
PERIODS = 5, 10


def train():
    """A leaf: stock `fit` without an end."""
    from tf_elastic import strategies

    chaos.fit_without_end(
        strategies.ElasticTreeStrategy(
            timeouts=strategies.Timeouts(heartbeat_s=0.5)
        ),
        period=PERIODS[0],
    )


class Report:
    """What has happened."""

    def __init__(self):
        self.kills = collections.Counter()
        self.losses = []
        self.centers = {}

    def table(self):
        """For the terminal."""
        lines = ["task        kills"]
        lines += [f"{t:10}  {n:5d}" for t, n in sorted(self.kills.items())]
        lines += ["", "node  followed  lost by kills  restored  late  version"]
        lines += [
            f"{k:4d}  {c.applied:8d}  {c.lost:13d}  {c.restored:8d}  "
            f"{c.late:4d}  {c.version:7d}"
            for k, c in sorted(self.centers.items())
        ]
        first, last = self.losses[0], self.losses[-1]
        lines += ["", f"loss of the root: {first:.3f}, then {last:.3f}"]
        return "\n".join(lines)


def root_loss(cluster):
    """Of what the root has; None while it is away."""
    from tf_elastic.cluster import layout as layouts

    made = layouts.Layout(
        [
            layouts.VariableSpec(name, shape, "float32", "parameters")
            for name, shape in (
                ("kernel", (chaos.FEATURES, chaos.CLASSES)),
                ("bias", (chaos.CLASSES,)),
            )
        ],
        1,
    )
    looks = client.CenterClient(
        cluster.centers[:1], None, False, LEAVES, Security(token=cluster.token)
    )
    try:
        [flat] = looks.look(made)
    except errors.ClusterError:
        return None
    finally:
        looks.leave()
    images, labels = chaos.digits()
    size = chaos.FEATURES * chaos.CLASSES
    logits = images @ flat[:size].reshape(-1, chaos.CLASSES) + flat[size:]
    logits = logits - logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - right))


def run(seconds, every_s=5.0, seed=0, least=0):
    """Kills for so many seconds, and `least` times at least."""
    random, report = np.random.default_rng(seed), Report()
    tree = tree_of_workers.over(
        ["here"] * LEAVES,
        tree_of_workers.TreeShape(2),
        topologies.multi_scale(*PERIODS),
    )
    with tempfile.TemporaryDirectory(prefix="chaos-tree-") as name:
        folder = pathlib.Path(name)
        events = folder / "events.jsonl"
        cluster = LocalCluster(
            [sys.executable, "-m", "tests.chaos_tree", "--role=leaf"],
            LEAVES,
            NODES,
            folder / "logs",
            env={
                cluster_tree.VARIABLE: cluster_tree.text_of(tree, move_s=600.0),
                event_file.VARIABLE: str(events),
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "1",
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "CUDA_VISIBLE_DEVICES": "-1",
            },
            center_command=[
                *(sys.executable, "-m", "tf_elastic.cluster.ps"),
                f"--lease_s={chaos.LEASE_S}",
                f"--snapshot_interval_s={chaos.SNAPSHOT_INTERVAL_S}",
            ],
            snapshot_dir=folder / "snapshots",
            restart_workers=True,
            max_restarts=10**6,
            output=io.StringIO(),
        )
        pids, turns = set(), []
        with cluster:

            def all_follow():
                tree_events.until_followed(
                    events, range(NODES), 3, chaos.WAIT_S, cluster
                )

            all_follow()
            report.losses.append(root_loss(cluster))
            end = time.monotonic() + seconds
            while time.monotonic() < end or report.kills.total() < least:
                if not turns:  # Each once, then anew.
                    turns = [("ps", k) for k in range(NODES)]
                    turns += [("worker", k) for k in range(1, LEAVES)]
                    random.shuffle(turns)
                role, index = turns.pop()
                pids.add(cluster.kill(role, int(index)))
                report.kills[f"{role} {index}"] += 1
                time.sleep(every_s * (0.5 + random.random()))
            all_follow()
            while (loss := root_loss(cluster)) is None:
                time.sleep(chaos.LOOK_S)
            report.losses.append(loss)
            pids.update(p.pid for p in cluster.processes())
        left = [pid for pid in pids if chaos.runs(pid)]
        assert not left, f"processes {left} are left"
        report.centers = tree_events.check(events)
    assert report.losses[-1] < report.losses[0], report.losses
    return report


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every_s", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    values = parser.parse_args(argv)
    if values.role == "leaf":
        return train()
    print(run(values.seconds, values.every_s, values.seed).table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
