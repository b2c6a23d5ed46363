"""What the nodes of a tree do that do not send points one way.

A node with children meets all of them, and is a child of the next one's meeting
after several; or it moves by each child's update, and sends up what several of
them have come to. Points that go one way are in `core.one_way`.
"""

from tf_elastic.core import one_way
from tf_elastic.core import topology
from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import increment
from tf_elastic.core.rules.servers import MERGED


def check_rule(rule: Rule, protocol: str) -> None:
    """Refuses a rule of which there is no tree by a protocol.

    Args:
        rule: of the exchange.
        protocol: of the topology.

    Raises:
        ValueError: there is none.
    """
    if protocol == topology.ONE_WAY:
        one_way.check_rule(rule)
    elif protocol not in rule.tree_protocols:
        known = {
            topology.SYNCHRONOUS: "a plain mean, that of `LocalSGD`",
            topology.ACCUMULATED: "momentum on two levels, that of `HALoS`",
        }
        raise ValueError(
            f"By `scheme={protocol!r}` goes {known[protocol]}. Received: the "
            f"rule {rule.name!r}. {one_way.where_else(rule)}"
        )


def weighed(
    rule: Rule, message: Array, slots: Slots[Array], weight: Scalar[Array]
) -> Array:
    """What a child brings to a meeting, as so many workers.

    The rule is then applied to the sum of these, with "num_workers" the sum
    of the weights: a mean is that of all workers below, whatever their blocks.

    Args:
        rule: of the exchange; it sends points.
        message: the child's point, floating, any shape.
        slots: what the node keeps; arrays of the same shape.
        weight: the workers below the child, or 1 for a worker.

    Example:

    >>> from tf_elastic.core import rules
    >>> weighed(rules.Mean(), 3.0, {"center": 1.0}, 4.0)
    8.0
    """
    return weight * rule.summand(rule.delta(message, slots))


def accumulated(slots: Slots[Array]) -> Array:
    """What a regional server sends up: its way since it last merged.

    Args:
        slots: of `rules.RegionalServer`.
    """
    return increment(slots[CENTER], slots[MERGED])
