"""The tree over the tasks of a cluster, and where each of them is in it.

Leaves are the workers; all other nodes are on the job `ps`. With S shards node
j is the tasks j * S to j * S + S - 1 of that job, the root first: shard k of a
node speaks with shard k of its parent.
"""

import json
import os
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from tf_elastic.cluster import tree_numbers
from tf_elastic.cluster.center.one_way_settings import OneWaySettings
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import ClusterConfigurationError
from tf_elastic.cluster.transport import addresses
from tf_elastic.core import congestion
from tf_elastic.core import one_way
from tf_elastic.core import tree_of_workers
from tf_elastic.core.one_way import DEFAULT_MOVE_S
from tf_elastic.core.topology import ONE_WAY
from tf_elastic.core.topology import Edge
from tf_elastic.core.topology import Topology
from tf_elastic.core.topology import TopologyError
from tf_elastic.timeline import wanted_tree
from tf_elastic.timeline.wanted_tree import WantedTree

VARIABLE = "TF_ELASTIC_TREE"
# The optimizers' own; nodes cannot know another.
_PERIOD = 10
_FIELDS = "tree edges scheme periods most_waiting move_s workers".split()


class Place(NamedTuple):
    """Where a task is in the tree, and how it takes part.

    Attributes:
        name: "worker:0" or "ps:0".
        number: by which its parent knows it.
        up_period: its own steps between two messages up; None of the root.
        further_periods: the same where it has gone to its parent's parent,
            that one's and so on.
        down_period: between two messages to its children; None of a leaf, and
            where what comes up is answered.
        siblings: children of its parent, itself included; 0 of the root.
        children: of its own, those that it begins with.
        begins: whether its values may begin an empty parent: the chief's are
            among those below it.
        parents: addresses of its parent's shards, of that one's parent's, and
            so on to the root's.
        centers: likewise, their indices in the job ps.
    """

    name: str
    number: int
    up_period: int | None
    further_periods: tuple[int, ...]
    down_period: int | None
    siblings: int
    children: tuple[int, ...]
    begins: bool
    parents: tuple[tuple[str, ...], ...]
    centers: tuple[tuple[int, ...], ...]


class ClusterTree:
    """A tree over the tasks of a cluster.

    Args:
        configuration: of this process.
        topology: its leaves are "worker:0" and so on, all else "ps:0", the
            root, and so on.
        most_waiting: messages that wait on each edge; see `EdgeQueues`.
        move_s: after how many seconds without its parent a child goes to its
            parent's parent.
        workers: that the topology is made for; those that come later are
            further children of the leaves' parents. None: no more may come.

    Raises:
        TopologyError: it is not of these tasks.
        ClusterConfigurationError: the job `ps` is not of so many nodes.
    """

    def __init__(
        self,
        configuration: ClusterConfiguration,
        topology: Topology,
        most_waiting: int = one_way.DEFAULT_MOST_WAITING,
        move_s: float = DEFAULT_MOVE_S,
        workers: int | None = None,
    ) -> None:
        _check_is_one_way(topology)
        self.configuration = configuration
        self.topology = topology
        self.most_waiting = most_waiting
        self.move_s = move_s
        nodes = tree_of_workers.num_nodes(topology)
        begun_with = workers or configuration.num_workers
        tree_of_workers.check_names(topology, begun_with, nodes)
        centers = len(configuration.centers)
        if centers % nodes:
            raise ClusterConfigurationError(
                f"The tree has {nodes} nodes beside the workers, and each must "
                "have the same number of tasks of the job ps. Received: "
                f"{centers} of them. Make them {nodes}, or a multiple."
            )
        self.workers = begun_with
        self.num_shards = centers // nodes

    @property
    def is_answered(self) -> bool:
        """Whether nodes answer what comes up, and send nothing down else."""
        return self.topology.down_period(self.topology.root) is None

    @property
    def root(self) -> tuple[str, ...]:
        """The addresses of the root's shards."""
        return self.addresses(self.topology.root)

    def addresses(self, node: str) -> tuple[str, ...]:
        """Of the shards of a node that is no leaf."""
        return tuple(self.configuration.centers[k] for k in self.tasks(node))

    def tasks(self, node: str) -> tuple[int, ...]:
        """The indices of the same in the job ps."""
        first = _index(node) * self.num_shards
        return tuple(range(first, first + self.num_shards))

    @property
    def shard(self) -> int:
        """Which shard of its node this process is, one of the job `ps`."""
        return self.configuration.index % self.num_shards

    @property
    def own_place(self) -> Place:
        """This process', of the job `worker` or `ps`."""
        index = self.configuration.index
        if self.configuration.role == "ps":
            return self.place(tree_of_workers.node(index // self.num_shards))
        return self.place(tree_of_workers.worker(index))

    def place(self, name: str) -> Place:
        """Of a worker or a node."""
        made = self.topology
        chiefs = made.ancestors(tree_of_workers.worker(0))
        like = name
        if name not in made.nodes:  # A worker that has come later.
            like = tree_of_workers.worker(_index(name) % self.workers)
        above = made.ancestors(like)
        # A dead parent's children send as seldom as it did.
        further = [made.up_period(node) for node in above[:-1]]
        return Place(
            name,
            number_of(name),
            made.up_period(like),
            tuple(period for period in further if period is not None),
            made.down_period(like),
            len(made.children(above[0])) if above else 0,
            tuple(map(number_of, made.children(name))),
            name in (*chiefs, tree_of_workers.worker(0)),
            tuple(map(self.addresses, above)),
            tuple(map(self.tasks, above)),
        )

    def settings(self) -> OneWaySettings:
        """How this process takes part, one of the job `ps`."""
        place = self.own_place
        chief = tree_of_workers.worker(0)
        chiefs = (chief, *self.topology.ancestors(chief))
        return OneWaySettings(
            None,
            place.up_period or 1,
            place.down_period or 1,
            self.most_waiting,
            further_periods=place.further_periods,
            most_stretch=congestion.DEFAULT_MOST,
            # Of whichever child the chief is, now or after a move.
            chiefs=frozenset(map(number_of, chiefs)),
            answers=self.is_answered,
        )


def text_of(
    topology: Topology,
    most_waiting: int = one_way.DEFAULT_MOST_WAITING,
    move_s: float = DEFAULT_MOVE_S,
    workers: int | None = None,
) -> str:
    """A tree for the variable `TF_ELASTIC_TREE`; see `ClusterTree`."""
    _check_is_one_way(topology)
    fields = {
        "edges": topology.to_json(),
        "most_waiting": most_waiting,
        "move_s": move_s,
    }
    if workers is not None:
        fields["workers"] = workers
    return json.dumps(fields)


def _check_is_one_way(topology: Topology) -> None:
    if topology.protocol != ONE_WAY:
        raise TopologyError(
            "Trees of processes go by the schemes multi_scale, up_down and "
            f"answered. Received: scheme={topology.protocol!r}, which is of a "
            "virtual cluster (`VirtualClusterStrategy`, or --virtual_workers). "
            "Choose one of these, or a virtual cluster."
        )


def number_of(name: str) -> int:
    """By which number a worker, or another node, is known to its parent."""
    index = _index(name)
    is_worker = name == tree_of_workers.worker(index)
    return index if is_worker else tree_numbers.NODES + index


def _index(name: str) -> int:
    return int(name.rpartition(":")[2])


def of(
    configuration: ClusterConfiguration,
    wanted: WantedTree,
    most_waiting: int = one_way.DEFAULT_MOST_WAITING,
    move_s: float = DEFAULT_MOVE_S,
    period: int | None = None,
) -> ClusterTree:
    """The tree that is asked for, over the tasks of a cluster.

    Args:
        configuration: of this process; workers are of one host if their
            addresses are.
        wanted: what is asked for.
        most_waiting: see `ClusterTree`.
        move_s: see `ClusterTree`.
        period: the first one, in steps, of a scheme that has none; None for
            10, and ten times that.

    Raises:
        TopologyError, ClusterConfigurationError, OSError: there is none such.
    """
    one_way.check_most_waiting(most_waiting)
    hosts = [addresses.split(address)[0] for address in configuration.workers]
    topology = wanted.over(hosts, period or _PERIOD)
    return ClusterTree(configuration, topology, most_waiting, move_s)


def from_environment(
    configuration: ClusterConfiguration, text: str | None = None
) -> ClusterTree | None:
    """The tree that the variable `TF_ELASTIC_TREE` asks for.

    It is "degree" or "degree:depth", the path of a file, a JSON list of edges
    [child, parent, up_period, down_period], or a JSON object with "tree" or
    "edges", and perhaps "scheme", "periods", "most_waiting" and "move_s".

    Args:
        configuration: of this process.
        text: of the variable; None to read it.

    Returns:
        None if it is not set.

    Raises:
        TopologyError, ClusterConfigurationError, OSError: there is none such.
    """
    if text is None:
        text = os.environ.get(VARIABLE)
    if not text or not text.strip():
        return None
    text = text.strip()
    if text[0] not in "[{":
        return of(configuration, wanted_tree.wanted(text))
    try:
        given = json.loads(text)
    except ValueError as error:
        raise TopologyError(
            f"{VARIABLE} begins like JSON, and is none: {error}."
        ) from error
    if isinstance(given, list):
        given = {"edges": given}
    unknown = sorted(set(given) - set(_FIELDS))
    if unknown or ("edges" in given) == ("tree" in given):
        raise TopologyError(
            f"{VARIABLE} must be an object with `tree` or `edges`, and "
            f"perhaps {', '.join(_FIELDS[2:-1])}. Received: "
            f"{', '.join(sorted(given)) or 'nothing'}."
        )
    return _from_fields(configuration, given)


def _from_fields(
    configuration: ClusterConfiguration, given: Mapping[str, Any]
) -> ClusterTree:
    most = given.get("most_waiting", one_way.DEFAULT_MOST_WAITING)
    move_s = given.get("move_s", DEFAULT_MOVE_S)
    one_way.check_most_waiting(most)
    if type(move_s) not in (int, float) or not move_s > 0:
        raise TopologyError(
            "`move_s` must be above 0, in seconds. Received: "
            f"move_s={move_s!r} in {VARIABLE}."
        )
    if "edges" in given:
        topology = _topology(given["edges"])
        workers = given.get("workers")
        return ClusterTree(configuration, topology, most, move_s, workers)
    wanted = wanted_tree.wanted(
        given["tree"], given.get("scheme"), given.get("periods")
    )
    return of(configuration, wanted, most, move_s)


def _topology(rows: Any) -> Topology:
    """Of what `Topology.to_json` gave."""
    fields = len(Edge._fields)
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == fields for row in rows
    ):
        raise TopologyError(
            f"The edges in {VARIABLE} must be a list of {list(Edge._fields)}. "
            f"Received: {rows!r:.80}."
        )
    return Topology([Edge(*row) for row in rows])
