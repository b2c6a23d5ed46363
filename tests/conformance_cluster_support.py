"""A worker in this process, and real center servers, over loopback."""

import types
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tests import cluster_support
from tests.conformance_support import assert_same_state
from tests.conformance_support import state
from tf_elastic import compat
from tf_elastic import strategies
from tf_elastic.cluster.center import snapshot_keeper

SHARDS = 2


class Cluster(cluster_support.Cluster):
    """Center servers, and workers of theirs in this process."""

    def __init__(self):
        super().__init__(SHARDS)

    def strategy(self, protocol, index=0, workers=1, devices=("CPU:0",)):
        """One that makes this process their worker."""
        spec = {
            "worker": [f"w{i}.invalid:1" for i in range(workers)],
            "ps": self.centers,
        }
        strategy = strategies.ElasticMultiWorkerStrategy(
            types.SimpleNamespace(
                cluster_spec=lambda: tf.train.ClusterSpec(spec),
                task_type="worker",
                task_id=index,
            ),
            protocol,
            devices=list(devices),
            timeouts=cluster_support.PATIENT,
        )
        self._end.callback(strategy.leave)
        return strategy

    def kept(self):
        """All numbers that the servers keep, as a snapshot does."""
        return [array for shard in self.shards for array in shard.snapshot()[1]]

    def restart(self, folder, links):
        """Ends all servers; new ones go on from their snapshots."""
        keepers = [
            snapshot_keeper.Snapshots(shard, str(folder / str(k)), 60.0)
            for k, shard in enumerate(self.shards)
        ]
        for keeper, server in zip(keepers, self.servers, strict=True):
            keeper.start()
            server.stop(0.0)
            keeper.stop()  # Takes a last one.
        cluster_support.until(lambda: all(link.away_since for link in links))
        for k in range(SHARDS):
            restored = cluster_support.new_node(k, SHARDS)
            keeper = snapshot_keeper.Snapshots(
                restored, str(folder / str(k)), 60.0
            )
            assert keeper.restore()
            keeper.start()
            keeper.stop()
            self.serve(k, restored)
        cluster_support.until(
            lambda: not any(link.away_since for link in links)
        )


class Run(NamedTuple):
    """A model, and the center servers that it trains with."""

    model: Any
    servers: Cluster

    @property
    def exchange(self):
        return self.model.distribute_strategy.extended.sessions[0].exchange

    def state(self):
        """Of the worker, and of the center."""
        return state(self.model), self.servers.kept()

    def seen(self):
        """The variables' values to somebody who looks on."""
        looking = self.servers.client(None)
        return self.by_name(looking.look(self.exchange.layout))

    def held(self, slot=None):
        """What the servers hold themselves: the variables, or a slot."""
        layout = self.exchange.layout
        flat = layout.zeros()
        for shard in self.servers.shards:
            arrays = shard.state.slots[slot] if slot else shard.arrays
            for part, array in zip(
                layout.parts(flat, shard.index), arrays, strict=True
            ):
                if array.size:  # Statistics have no velocity.
                    part[...] = array
        return self.by_name(flat)

    def by_name(self, flat):
        names = [variable.name for variable in self.exchange._variables]
        return dict(zip(names, self.exchange._cut(flat), strict=True))


def name_of(variable):
    return compat.native_variable(variable).name


def assert_same(found, expected, exactly=True):
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_state(ours, theirs, exactly)


def protocol_of(case):
    """The one that fixes when everything happens, where there is a choice."""
    protocols = case.make().method.protocols
    return "blocking" if "blocking" in protocols else protocols[0]
