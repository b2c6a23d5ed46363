"""Leaves of a tree in processes of their own, which step when they are told.

The nodes are in this process, behind sockets.
"""

import numpy as np
import pytest

from tests import tree_strategy_test as exact
from tests import tree_support as trees
from tests import worker_processes_test as processes
from tf_elastic.cluster.launch import cluster_tree

pool = processes.pool


def follows_the_schedule(pool, depth, scheme, method):
    topology = exact.made(depth, scheme)
    nodes = trees.Nodes(topology)
    leaves = dict(
        zip(topology.leaves, pool.living(len(topology.leaves)), strict=True)
    )
    text = cluster_tree.text_of(topology, trees.MOST)
    jobs = {"worker": list(nodes.workers), "ps": list(nodes.centers)}
    try:
        for index, process in enumerate(leaves.values()):
            task = {"type": "worker", "index": index}
            config = {"cluster": jobs, "task": task}
            process.ask("begin_leaf", config=config, tree=text, method=method)
        for process in leaves.values():
            process.answer()
        clocks = dict.fromkeys(leaves, 0)
        events = trees.schedule(depth, 150 * depth, topology)
        found = {name: [] for name in topology.nodes}
        at = {
            name: np.array(process.do("leaf", event="looks"))
            for name, process in leaves.items()
        }
        for what, name in events:
            if name in leaves:
                row = None
                if what == "step":
                    row = exact.NOISE[int(name[-1]), clocks[name]].tolist()
                    clocks[name] += 1
                at[name] = np.array(
                    leaves[name].do("leaf", event=what, row=row)
                )
            else:
                nodes.do(what, name)
            for node, rows in found.items():
                rows.append(at[node] if node in at else nodes.point(node))
        wanted = exact.expected(topology, events, method)
        found = {name: np.stack(rows) for name, rows in found.items()}
        exact.check(found, wanted, events, topology.nodes)
    finally:
        for process in leaves.values():
            process.ask("end")
        for process in leaves.values():
            process.answer()
        nodes.close()


@pytest.mark.timeout(900)
@pytest.mark.full
@pytest.mark.parametrize(
    ("depth", "scheme", "method"),
    [
        (2, "multi_scale", "nesterov"),
        (2, "up_down", "heavy_ball"),
        (3, "up_down", "nesterov"),
    ],
)
def test_a_tree_across_processes_is_algorithm_6(pool, depth, scheme, method):
    follows_the_schedule(pool, depth, scheme, method)
