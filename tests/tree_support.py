"""A tree of live nodes and of leaves under `ElasticTreeStrategy`, by events.

Nothing happens by itself: a node takes its turn, a leaf its step, a message is
carried up or heard from above, when the schedule says so.
"""

import contextlib
import threading
import time
import types

import numpy as np
import tensorflow as tf

from tests import cluster_support as support
from tests import elastic_multi_worker_job as job
from tf_elastic import strategies
from tf_elastic.cluster import errors
from tf_elastic.cluster.center.server import CenterServer
from tf_elastic.cluster.center.tree_nodes import TreeNodes
from tf_elastic.cluster.launch.cluster_tree import ClusterTree
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.worker.patience import Patience
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import congestion
from tf_elastic.core import tree_of_workers
from tf_elastic.strategies import tree_extended
from tf_elastic.timeline import stream

MOST = 2


def without_threads(monkeypatch):
    """Leaves whose messages go when they are told to, however slowly."""
    monkeypatch.setattr(congestion, "DEFAULT_MOST", 1)
    monkeypatch.setattr(
        tree_extended,
        "Surroundings",
        lambda **kwargs: Surroundings(beats=False, **kwargs),
    )


class Nodes:
    """All nodes that are no leaves, in this process, behind sockets.

    Args:
        topology: of the tree.
        num_shards: of each node.
        most_waiting: messages on an edge.
    """

    def __init__(self, topology, num_shards=1, most_waiting=MOST):
        self.topology = topology
        self.num_shards = num_shards
        self.most_waiting = most_waiting
        count = tree_of_workers.num_nodes(topology) * num_shards
        self.centers = tuple(
            f"127.0.0.1:{port}" for port in addresses.free_ports(count)
        )
        self.workers = tuple(
            f"w{i}.invalid:1" for i in range(len(topology.leaves))
        )
        self.nodes = []
        self.told = []  # what these nodes tell
        self._closed = threading.Event()
        self._joiner = threading.Thread(target=self.join, daemon=True)
        self._end = contextlib.ExitStack()
        for index in range(count):
            tree = self.tree("ps", index)
            made = TreeNodes(tree, Security(), job.PATIENT)
            node = support.new_node(
                tree.shard,
                num_shards,
                grace_s=0.0,
                lease_s=600.0,
                one_way=made.settings._replace(max_lag=None, most_stretch=1),
                upstream=made.upstream(0),
                now=time.monotonic,
                events=stream.of_center(index, 0, time.time),
            )
            node.events.listen(self.told.append)
            server = CenterServer(node, self.centers[index], Security())
            self._end.callback(server.stop, 0.0)
            server.start()
            self.nodes.append(node)
        self._joiner.start()

    def tree(self, role, index):
        made = ClusterConfiguration(self.workers, self.centers, (), role, index)
        return ClusterTree(made, self.topology, self.most_waiting)

    def close(self):
        self._closed.set()
        self._joiner.join(60.0)
        for node in self.nodes:
            if node.one_way.upstream is not None:
                node.one_way.upstream.parent.connection.close()
        self._end.close()

    def of(self, name):
        """The shards of a node."""
        first = int(name.rpartition(":")[2]) * self.num_shards
        return self.nodes[first : first + self.num_shards]

    def do(self, what, name):
        """One event of a node."""
        for node in self.of(name):
            edge = node.one_way.upstream
            if what == "turn":
                (node.answered or node.one_way).turn()
            elif what == "up":
                edge.carry()
            elif what == "down":
                edge.hear(0.0)

    def strategy(self, index, **kwargs):
        """A leaf."""
        resolver = types.SimpleNamespace(
            cluster_spec=lambda: tf.train.ClusterSpec(
                {"worker": list(self.workers), "ps": list(self.centers)}
            ),
            task_type="worker",
            task_id=index,
        )
        return strategies.ElasticTreeStrategy(
            resolver,
            self.topology,
            most_waiting=self.most_waiting,
            devices=["CPU:0"],
            timeouts=job.PATIENT,
            **kwargs,
        )

    def join(self):
        """Inner nodes join their parents as soon as they know a model."""
        waiting = [n for n in self.nodes if n.one_way.upstream is not None]
        while waiting and not self._closed.wait(0.01):
            for node in list(waiting):
                if node.state.layout is None:
                    continue
                patience = Patience(1.0, self._closed, time.monotonic)
                with contextlib.suppress(errors.CenterUnavailableError):
                    node.above.join(patience)
                    waiting.remove(node)

    def point(self, name):
        return np.concatenate([node.arrays[0] for node in self.of(name)])


def upstreams(member):
    """The edges of a leaf (a model), or of the shards of a node, upward."""
    if isinstance(member, list):
        return [node.one_way.upstream for node in member]
    return member.distribute_strategy.extended.client.edges


def schedule(seed, events, topology):
    """Events of `reference.easgd_tree`, by chance; leaves step, then look."""
    generator = np.random.default_rng(seed)
    made = []
    for leaf in topology.leaves:  # They begin before others have moved.
        made += [("head", leaf), ("step", leaf), ("head", leaf)]
    for _ in range(events):
        what = str(generator.choice(["turn", "up", "down"]))
        nodes = topology.nodes if what == "turn" else topology.nodes[1:]
        name = str(generator.choice(nodes))
        if what == "turn" and name in topology.leaves:
            made += [("step", name), ("head", name)]
        else:
            made.append((what, name))
    return made


class Tree:
    """Nodes, and models that are leaves, all where they begin.

    Args:
        nodes: `Nodes`.
        build: makes the model of a leaf, by its strategy and index.
        step: has a model take one local step on the sample of its clock.
    """

    def __init__(self, nodes, build, step):
        self.nodes = nodes
        self._step = step
        leaves = nodes.topology.leaves
        self.models = {}
        self._strategies = [nodes.strategy(i) for i in range(len(leaves))]
        self.clocks = dict.fromkeys(leaves, 0)
        for index, strategy in enumerate(self._strategies):
            name = tree_of_workers.worker(index)
            model = build(strategy, index)
            self.models[name] = model

    def close(self):
        for strategy in self._strategies:
            strategy.leave()
        self.nodes.close()

    def do(self, what, name):
        """One event."""
        leaf = self.models.get(name)
        if what == "step":
            self._step(leaf, self.clocks[name])
            self.clocks[name] += 1
        elif leaf is None:
            self.nodes.do(what, name)
        elif what in ("up", "down"):
            for edge in upstreams(leaf):
                if what == "up":
                    edge.carry()
                else:
                    edge.hear(0.0)
                assert not edge.is_away

    def run(self, events):
        """{name: its points, after each event}."""
        rows = {name: [] for name in self.nodes.topology.nodes}
        for event in events:
            self.do(*event)
            for name, row in rows.items():
                leaf = self.models.get(name)
                row.append(
                    self.nodes.point(name) if leaf is None else job.point(leaf)
                )
        return {name: np.stack(row) for name, row in rows.items()}
