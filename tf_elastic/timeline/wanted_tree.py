"""A tree as a user asks for it, before it is known who its workers are."""

import os
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from tf_elastic.core import topology as topologies
from tf_elastic.core import tree_of_workers
from tf_elastic.core.topology import Scheme
from tf_elastic.core.topology import Topology
from tf_elastic.core.topology import TopologyError
from tf_elastic.core.tree_of_workers import TreeShape
from tf_elastic.timeline import tree_file


class WantedTree(NamedTuple):
    """A tree that was asked for; make it by `wanted`.

    Attributes:
        given: the topology, a path, or a shape.
        scheme: a scheme, or its name.
        periods: of a scheme that is named; None for the optimizer's.
    """

    given: Topology | str | TreeShape
    scheme: Scheme | str
    periods: tuple[int, int] | None

    @property
    def protocol(self) -> str:
        """How its nodes exchange; see `Topology`."""
        if isinstance(self.given, Topology):
            return self.given.protocol
        if isinstance(self.scheme, Scheme):
            return self.scheme.protocol
        return topologies.scheme(self.scheme, 1).protocol

    @property
    def scheme_name(self) -> str:
        """Of its scheme, or of its protocol, for messages."""
        if isinstance(self.given, Topology):
            return self.given.protocol
        if isinstance(self.scheme, Scheme):
            return self.scheme.name
        return self.scheme

    def over(
        self, hosts: Sequence[str], communication_period: int | None
    ) -> Topology:
        """The tree.

        Args:
            hosts: of each worker, by its index.
            communication_period: the optimizer's, for the first period if none
                is given; None if it has none.

        Raises:
            TopologyError: it is none, or its periods are not known.
            MissingExtraError: there is no package to read its file.
            OSError: its file can't be read.
        """
        if isinstance(self.given, Topology):
            return self.given
        scheme = self._scheme(communication_period)
        if isinstance(self.given, str):
            return tree_file.read(self.given, scheme)
        if scheme is None:
            raise TopologyError(
                "The periods of a tree have to be known. Received: "
                "periods=None, and an optimizer without a "
                "communication_period. Give periods=(1, 10), say."
            )
        return tree_of_workers.over(hosts, self.given, scheme)

    def _scheme(self, communication_period: int | None) -> Scheme | None:
        if isinstance(self.scheme, Scheme):
            return self.scheme
        if self.periods is not None:
            return topologies.scheme(self.scheme, *self.periods)
        if communication_period is None:
            return None  # A file may have them all.
        return topologies.scheme(self.scheme, communication_period)


def wanted(
    topology: Topology | str | os.PathLike[str],
    scheme: Scheme | str | None = None,
    periods: Sequence[int] | None = None,
) -> WantedTree:
    """What is asked for, checked as far as can be.

    Args:
        topology: a topology; "degree" or "degree:depth", such as "16:2"; or
            the path of a file, see `tree_file`.
        scheme: how often whom: one of `core.topology.SCHEMES`, or a
            `core.topology.Scheme`; of a file, of what it does not say. None for
            "up_down".
        periods: the two of a scheme that is named, in steps: (leaves' edges,
            all above), or (up, down) of "up_down"; of "synchronous" and
            "accumulated" the second counts a node's updates. None for the
            optimizer's communication period, and ten times that, or ten
            updates.

    Raises:
        TopologyError: an argument is none, or does not go with the others.

    Example:

    >>> asked = wanted("2", "up_down", (1, 10))
    >>> asked.over(["here"] * 4, None).leaves
    ('worker:0', 'worker:1', 'worker:2', 'worker:3')
    """
    if isinstance(topology, Topology):
        if scheme is not None or periods is not None:
            raise TopologyError(
                "A topology has all periods. Received: a topology, with "
                f"scheme={scheme!r:.80}, periods={periods!r:.80}. Leave these "
                "out."
            )
        return WantedTree(topology, topologies.DEFAULT_SCHEME, None)
    if not isinstance(topology, str | os.PathLike):
        raise TopologyError(
            '`topology` must be a topology, "degree" or "degree:depth", or '
            f"the path of a file. Received: topology={topology!r:.80}."
        )
    found = topologies.DEFAULT_SCHEME if scheme is None else scheme
    if isinstance(found, Scheme) and periods is not None:
        raise TopologyError(
            "A `Scheme` has its periods. Received: scheme="
            f"{found.name!r}, with periods={periods!r:.80}. Leave these out."
        )
    if isinstance(found, str):
        topologies.scheme(found, *_pair(periods))
    given = os.fspath(topology)
    is_shape = bool(given) and not given.strip("0123456789: ")
    return WantedTree(
        tree_of_workers.shape(given) if is_shape else given,
        found,
        None if periods is None else _pair(periods),
    )


def _pair(periods: Any) -> tuple[int, int]:
    if periods is None:
        return 1, topologies.SECOND_PERIOD
    if isinstance(periods, str) or len(periods) != 2:
        raise TopologyError(
            "`periods` must be two integers >= 1, such as (1, 10). Received: "
            f"periods={periods!r:.80}."
        )
    first, second = periods
    return first, second
