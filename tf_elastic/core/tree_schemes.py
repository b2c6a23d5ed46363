"""How often whom in a tree, and by which protocol: its schemes."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

# How the nodes of a tree exchange.
ONE_WAY = "one_way"  # points go up and down; or who asks is answered
SYNCHRONOUS = "synchronous"  # a node and all its children meet
ACCUMULATED = "accumulated"  # a node sends up what its children's updates were


class TopologyError(ValueError):
    """A topology is none; the message says why.

    Args:
        message: what is wrong, and what to do.
        nodes: who is at fault.
    """

    def __init__(self, message: str, nodes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nodes = tuple(nodes)


class Periods(NamedTuple):
    """Of an edge; see `Edge`."""

    up: int
    down: int | None


class Scheme(NamedTuple):
    """How often whom: a period for each edge, by where it is.

    Use `multi_scale` or `up_down` for those of the thesis, `synchronous` for
    hierarchical local SGD, `accumulated` for HALoS.

    Attributes:
        name: for messages.
        levels: of the leaves' edges, of those above, and so on; the last one
            is of all further ones.
        protocol: see `Topology`.
    """

    name: str
    levels: tuple[Periods, ...]
    protocol: str = ONE_WAY

    def periods(self, height: int) -> Periods:
        """Of an edge whose child is so high above the leaves, from 0."""
        return self.levels[min(height, len(self.levels) - 1)]


def multi_scale(leaf_period: int, upper_period: int) -> Scheme:
    r"""The first scheme: fast at the bottom, slow above.

    Args:
        leaf_period: :math:`\tau_1`, between the leaves and their parents, both
            ways, in steps.
        upper_period: :math:`\tau_2`, between all other nodes.

    Reference:
        Zhang (2016), section 6.1.1, Figure 6.2.
    """
    pairs = (leaf_period, leaf_period), (upper_period, upper_period)
    return Scheme("multi_scale", tuple(Periods(*pair) for pair in pairs))


def up_down(up_period: int, down_period: int) -> Scheme:
    r"""The second scheme: often upward, seldom downward.

    Args:
        up_period: :math:`\tau_u`, of every node but the root, in steps.
        down_period: :math:`\tau_d`, of every node but the leaves.

    Reference:
        Zhang (2016), section 6.1.1, Figure 6.2.
    """
    return Scheme("up_down", (Periods(up_period, down_period),))


def answered(leaf_period: int, upper_period: int | None = None) -> Scheme:
    """What comes up is answered, and nothing else is sent down.

    The "locally synchronous" protocol of section 6.1.1.

    Args:
        leaf_period: of the leaves, in their steps.
        upper_period: of all other nodes; None for the same.
    """
    levels = (leaf_period, upper_period or leaf_period)
    return Scheme("answered", tuple(Periods(up, None) for up in levels))


def synchronous(leaf_period: int, upper_period: int) -> Scheme:
    """Hierarchical local SGD: blocks meet, and now and then all blocks do.

    Args:
        leaf_period: H, the leaves' steps between two rounds of their block,
            the children of one node.
        upper_period: H_b, a block's rounds between two rounds of its parent.

    Reference:
        Lin et al. (2020), "Don't use large mini-batches, use local SGD",
        "hierarchical local SGD".
    """
    return _answering(SYNCHRONOUS, leaf_period, upper_period)


def accumulated(leaf_period: int, upper_period: int) -> Scheme:
    """HALoS: local servers send up what several updates have come to.

    Args:
        leaf_period: H, the leaves' steps between two messages.
        upper_period: K, a node's updates between two messages to its parent.

    Reference:
        Kim et al. (2025), "HALoS: Hierarchical asynchronous local SGD over
        slow networks".
    """
    return _answering(ACCUMULATED, leaf_period, upper_period)


def _answering(protocol: str, *up_periods: int) -> Scheme:
    levels = tuple(Periods(up, None) for up in up_periods)
    return Scheme(protocol, levels, protocol)


SCHEMES: dict[str, Callable[[int, int], Scheme]] = {
    "multi_scale": multi_scale,
    "up_down": up_down,
    "answered": answered,
    SYNCHRONOUS: synchronous,
    ACCUMULATED: accumulated,
}
DEFAULT_SCHEME = "up_down"  # of the two the one that diverges less often
# The second period of a scheme, of the first: the thesis' 100 of 10, 10 of 1
# and 80 of 8. Of those that count a node's updates: the second period itself.
SECOND_PERIOD = 10
_COUNT_UPDATES = (SYNCHRONOUS, ACCUMULATED)


def scheme(name: str, first: int, second: int | None = None) -> Scheme:
    """A scheme by its name.

    Args:
        name: one of SCHEMES.
        first: its first period, in steps.
        second: its second one; None for ten times the first, or for ten if it
            counts updates.

    Raises:
        TopologyError: there is none of this name, or a period is none.

    Example:

    >>> scheme("up_down", 1) == up_down(up_period=1, down_period=10)
    True
    """
    if name not in SCHEMES:
        raise TopologyError(
            f"`scheme` must be one of {', '.join(SCHEMES)}. Received: "
            f"scheme={name!r:.80}."
        )
    unit = 1 if name in _COUNT_UPDATES else first
    periods = (first, SECOND_PERIOD * unit if second is None else second)
    if any(type(period) is not int or period < 1 for period in periods):
        raise TopologyError(
            f"`periods` must be two integers >= 1, of the scheme {name!r}. "
            f"Received: periods={periods!r}."
        )
    return SCHEMES[name](*periods)
