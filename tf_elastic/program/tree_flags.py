"""The flags of a tree, of real processes or of a virtual cluster."""

from tf_elastic.core import one_way
from tf_elastic.core import topology
from tf_elastic.program.flag import Flag

# fmt: off
FLAGS = [
    Flag(
        "tree", "text", None,
        "Put inner nodes between the workers and the center: degree, such as "
        "4, or degree:depth, such as 16:2; or a YAML file of edges.",
        "none: all workers are at the center",
    ),
    Flag(
        "scheme", "|".join(topology.SCHEMES), None,
        "How often whom, in a tree. multi_scale: often at the workers, seldom "
        "above; up_down: often upward, seldom downward; answered: what comes "
        "up is answered, and nothing else goes down. In a virtual cluster "
        "also synchronous, of --optimizer=local_sgd, and accumulated, of "
        "--optimizer=halos.",
        topology.DEFAULT_SCHEME,
    ),
    Flag(
        "periods", "text", None,
        "The two periods of --scheme, in local steps, such as 1,10: of the "
        "workers' edges and of all above; of up_down, up and down. Of "
        "synchronous and accumulated the second counts a node's updates.",
        "--communication_period, and ten times that, or ten updates",
    ),
    Flag(
        "most_waiting", "integer", one_way.DEFAULT_MOST_WAITING,
        "Messages that wait on an edge of a tree, each way; of more the oldest "
        "is lost. 1: the newest wins.",
    ),
]
# fmt: on
