"""Elastic training on a tree of many processes and machines."""

import os
from collections.abc import Sequence
from typing import Any

from tf_elastic.cluster.launch import cluster_tree
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.core import one_way
from tf_elastic.core.one_way import DEFAULT_MOVE_S
from tf_elastic.core.topology import Scheme
from tf_elastic.core.topology import Topology
from tf_elastic.core.topology import TopologyError
from tf_elastic.strategies.elastic_multi_worker import (
    ElasticMultiWorkerStrategy,
)
from tf_elastic.strategies.elastic_multi_worker import configuration_of
from tf_elastic.strategies.elastic_strategy import ElasticStrategy
from tf_elastic.strategies.elastic_strategy import check_devices
from tf_elastic.strategies.tree_extended import ElasticTreeExtended
from tf_elastic.timeline import wanted_tree


class ElasticTreeStrategy(ElasticMultiWorkerStrategy):
    r"""Trains one model on a tree of processes that wait for nobody.

    A star stops scaling when its center's link is full. In a tree the workers
    are leaves: they exchange often with a node near them, and these nodes
    seldom with others above. Only what is between the last nodes and the
    *root* passes its link; the root is the answer, which `evaluate`, `save`
    and all callbacks see. Stock `fit` is all there is to call.

    Every node sends where it is, up and down, each in its own period, and
    moves to whatever arrives, as soon as it has arrived:

    .. math:: x^i \leftarrow x^i + \alpha (y - x^i), \qquad
              \alpha = \beta / (d + 1)

    for d children of the node, or of a leaf's parent. Nothing is answered,
    and nothing waits; no point moves between a gradient and the step by it.

    Leaves are the job `worker` of `TF_CONFIG`, all other nodes the job `ps`,
    the root first, each with the same number S of tasks (shards): node j is
    the tasks j S to j S + S - 1. They are started by `python -m
    tf_elastic.cluster.ps`, and have to know the same tree: set
    `TF_ELASTIC_TREE` for all processes, and leave `topology` out.

    A node that dies is started again and goes on from its snapshot; what is
    below it trains on meanwhile, alone. If it is not back after `move_s`
    seconds its children go to its parent, and stay there. An edge that is too
    slow for its period has it stretched, up to 8 times, until it is quick
    again.

    Args:
        cluster_resolver: as in `ElasticMultiWorkerStrategy`.
        topology: "degree", "degree:depth", such as `"16:2"`; the path of a
            file, see `timeline.tree_file`; or a `core.topology.Topology`. None
            for the environment variable `TF_ELASTIC_TREE`.
        scheme: with a degree or a file, who sends how often: `"multi_scale"`
            (the thesis' first scheme), every `periods[0]` steps between the
            leaves and their parents, every `periods[1]` above; `"up_down"`
            (its second), every `periods[0]` steps upward and every
            `periods[1]` downward; `"answered"`, what comes up is answered
            by the difference and nothing else comes down, every `periods[0]`
            steps of the leaves and every `periods[1]` above; or a
            `core.topology.Scheme`. None for `"up_down"`.
        periods: two numbers of steps, each >= 1; None for (10, 100).
        most_waiting: messages that wait on each edge and way, >= 1; of more
            the oldest is left out, and counted. With 1 the newest wins.
        move_s: see above, > 0.
        devices: of this process; they are mirrored inside it.
        timeouts: how long to wait for what; None for `Timeouts()`.
        security: token and certificates; None for the environment variables
            `TF_ELASTIC_*`.
        closing: whether the last point leaves at the end of `fit`.
        events: a file to append to what happens; see
            `ElasticMultiWorkerStrategy`.

    Raises:
        ClusterConfigurationError: `TF_CONFIG` is missing or wrong, or the job
            `ps` has tasks for another number of nodes.
        TopologyError: there is no such tree over these workers; where it is
            of a file, with the line.
        ValueError: an argument is not one of its choices.

    Example:

    ```python
    strategy = te.strategies.ElasticTreeStrategy(topology="16")
    with strategy.scope():
        model = te.models.cifar_convnet()
        model.compile(
            te.optimizers.EAMSGD(0.005, momentum=0.9),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.fit(train, epochs=10, steps_per_epoch=390)
    ```

    If the root lags behind the leaves, lower the second period. If a link is
    full, raise it.

    Reference:
        Zhang (2016), section 6.1, Algorithm 6.
    """

    def __init__(
        self,
        cluster_resolver: Any = None,
        topology: str | os.PathLike[str] | Topology | None = None,
        scheme: str | Scheme | None = None,
        periods: Sequence[int] | None = None,
        most_waiting: int = one_way.DEFAULT_MOST_WAITING,
        move_s: float = DEFAULT_MOVE_S,
        devices: Sequence[str] | None = None,
        timeouts: Timeouts | None = None,
        security: Security | None = None,
        closing: bool = True,
        events: str | None = None,
    ) -> None:
        check_devices(devices)
        self.configuration = configuration_of(
            cluster_resolver, "is a node of the tree"
        )
        if topology is None:
            tree = cluster_tree.from_environment(self.configuration)
        else:
            wanted = wanted_tree.wanted(topology, scheme, periods)
            tree = cluster_tree.of(
                self.configuration, wanted, most_waiting, move_s
            )
        if tree is None:
            raise TopologyError(
                "`topology` must be a tree. Received: None, and no "
                f"{cluster_tree.VARIABLE}. Set that variable for all "
                'processes, to "2", say, for a tree of degree 2.'
            )
        self.tree = tree
        # Its base makes a star of the same processes.
        ElasticStrategy.__init__(
            self,
            ElasticTreeExtended(
                self,
                tree,
                devices=devices,
                timeouts=timeouts,
                security=security or Security.from_environment(),
                closing=closing,
                max_lag=None,
                events=events,
            ),
        )
