"""A tree as a user asks for it: by a degree, a file, edges or a topology."""

import json
import os
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from tf_elastic.core import topology
from tf_elastic.core import tree_of_workers
from tf_elastic.core.topology import Edge
from tf_elastic.core.topology import Scheme
from tf_elastic.core.topology import Topology
from tf_elastic.core.topology import TopologyError
from tf_elastic.timeline import tree_file

DEFAULT_SCHEME = "multi_scale"
# By what the first period of a scheme is multiplied if no other is given, as
# in the thesis: 10 and 100, 1 and 10, 8 and 80.
RATIO = 10
_SCHEMES = {
    "multi_scale": topology.multi_scale,
    "up_down": topology.up_down,
    "answered": topology.answered,
}
SCHEMES = tuple(_SCHEMES)
# The thesis' first periods of a scheme (section 6.1).
FIRST_PERIODS = {"multi_scale": 10, "up_down": 1, "answered": 10}


class TreeSetting(NamedTuple):
    """A tree that is asked for.

    Attributes:
        tree: "degree" or "degree:depth", such as "2" or "16:2"; the path of a
            file, see `tree_file`; or a `Topology`.
        scheme: one of `SCHEMES`, or a `Scheme` for other periods of each
            level. A `Topology` has its own.
        periods: the scheme's two, in steps, each an integer >= 1:
            (tau_1, tau_2) or (tau_u, tau_d). None: see `scheme_of`.
    """

    tree: str | os.PathLike[str] | Topology
    scheme: str | Scheme = DEFAULT_SCHEME
    periods: Sequence[int] | None = None

    def topology(
        self, hosts: Sequence[str], first_period: int | None = None
    ) -> Topology:
        """The tree, over the workers of a cluster.

        Args:
            hosts: of each worker, by its index; see `tree_of_workers.over`.
            first_period: see `scheme_of`.

        Raises:
            TopologyError: there is none such; of a file, with its line.
            OSError: its file can't be read.

        Example:

        >>> TreeSetting("2").topology(["a"] * 4).up_period("ps:1")
        100
        """
        if isinstance(self.tree, Topology):
            return self.tree
        scheme = scheme_of(self.scheme, self.periods, first_period)
        text = os.fspath(self.tree)
        if is_shape(text):
            shape = tree_of_workers.shape(text)
            return tree_of_workers.over(hosts, shape, scheme)
        return tree_file.read(text, scheme)


def is_shape(text: str) -> bool:
    """Whether a text is meant as a degree, and not as a path."""
    parts = text.split(":")
    return len(parts) <= 2 and all(
        part.strip().lstrip("-").isdecimal() for part in parts
    )


def scheme_of(
    scheme: str | Scheme,
    periods: Sequence[int] | None = None,
    first_period: int | None = None,
) -> Scheme:
    """A scheme by its name and periods.

    Args:
        scheme: one of `SCHEMES`, or a `Scheme`, which has its periods.
        periods: two of them; None for `first_period`, and ten times that.
        first_period: None for the thesis': 10, or 1 of "up_down".

    Raises:
        TopologyError: there is no such scheme, or a period is none.

    Example:

    >>> scheme_of("up_down", (1, 10)).periods(0)
    Periods(up=1, down=10)
    """
    if isinstance(scheme, Scheme):
        if periods is not None:
            raise TopologyError(
                "`periods` are those of a scheme that is given by its name. "
                f"Received: periods={periods!r} with a Scheme. Leave one out."
            )
        return scheme
    if scheme not in _SCHEMES:
        raise TopologyError(
            f"`scheme` must be one of {', '.join(SCHEMES)}, or a Scheme. "
            f"Received: scheme={scheme!r}."
        )
    if periods is None:
        first = first_period or FIRST_PERIODS[scheme]
        periods = first, RATIO * first
    is_pair = isinstance(periods, Sequence) and len(periods) == 2
    if not is_pair or not all(type(p) is int and p >= 1 for p in periods):
        raise TopologyError(
            "`periods` must be two integers >= 1, in steps. Received: "
            f"periods={periods!r}."
        )
    return _SCHEMES[scheme](*periods)


def edges_of(rows: Any) -> Topology:
    """A topology of what `Topology.to_json` gave.

    Raises:
        TopologyError: it is none.
    """
    fields = len(Edge._fields)
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == fields for row in rows
    ):
        raise TopologyError(
            f"Edges must be a list of {list(Edge._fields)}. Received: "
            f"{json.dumps(rows, default=str):.80}."
        )
    return Topology([Edge(*row) for row in rows])
