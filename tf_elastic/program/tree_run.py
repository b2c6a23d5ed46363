"""A run on a tree of processes: what all of them have to know."""

import os
from typing import TYPE_CHECKING

from tf_elastic.program import defaults
from tf_elastic.program import tree_checks
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic.core.topology import Topology

_HERE = "127.0.0.1"


def local(settings: Settings) -> "Topology | None":
    """The tree over the workers that a local cluster starts; None for none."""
    if settings["strategy"] != defaults.TREE:
        return None
    hosts = [_HERE] * settings["local_workers"]
    return _topology(settings, hosts)


def num_nodes(tree: "Topology | None") -> int:
    """How many nodes of the job ps a tree has; a star has one."""
    from tf_elastic.core import tree_of_workers

    return 1 if tree is None else tree_of_workers.num_nodes(tree)


def environment(settings: Settings, tree: "Topology | None") -> dict[str, str]:
    """By what the processes of a local cluster know their tree."""
    if tree is None:
        return {}
    from tf_elastic.cluster.launch import cluster_tree

    text = cluster_tree.text_of(
        tree, settings["most_waiting"], workers=settings["local_workers"]
    )
    return {cluster_tree.VARIABLE: text}


def tell_this_process(settings: Settings) -> None:
    """Notes what the flags say, for whatever reads the variable.

    Without flags it stays what it is.
    """
    if settings["tree"] is None:
        return
    from tf_elastic.cluster.launch import cluster_tree
    from tf_elastic.cluster.launch.configuration import ClusterConfiguration
    from tf_elastic.cluster.transport import addresses

    workers = ClusterConfiguration.from_tf_config().workers
    hosts = [addresses.split(address)[0] for address in workers]
    tree = _topology(settings, hosts)
    if tree is not None:
        text = cluster_tree.text_of(tree, settings["most_waiting"])
        os.environ[cluster_tree.VARIABLE] = text


def _topology(settings: Settings, hosts: list[str]) -> "Topology | None":
    wanted = tree_checks.wanted_tree(settings)
    if wanted is None:
        return None
    period = settings["communication_period"]
    steps = int(period) if period and period != "none" else None
    return wanted.over(hosts, steps)
