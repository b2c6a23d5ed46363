"""What has become of those below a node, as it tells.

The process of an inner node is there whatever its children do. So it tells its
parent of them, with its signs of life, and the root tells whoever looks.
"""

from collections.abc import Iterable

from tf_elastic.cluster.center.registration import Registration
from tf_elastic.cluster.watch import BELOW
from tf_elastic.cluster.watch import FINISHED
from tf_elastic.cluster.watch import GONE
from tf_elastic.cluster.watch import THERE
from tf_elastic.cluster.watch import TRAINS


def state(children: Iterable[Registration]) -> str:
    """The workers below: `THERE` if one is, else `FINISHED`, or `GONE`.

    Args:
        children: of the node: workers, or nodes that have told of theirs.

    Returns:
        `FINISHED` if all have; `GONE` if one has left before, or there was
        none.

    Example:

    >>> from tf_elastic.cluster.center.registration import Registration
    >>> done = Registration(1, present=False, finished=True)
    >>> node = Registration(1, notes={"below": "finished"})
    >>> state([done, node]), state([done, Registration(1)]), state([])
    ('finished', 'there', 'gone')
    """
    states = {_state_of(child) for child in children}
    if THERE in states:
        return THERE
    return FINISHED if states == {FINISHED} else GONE


def _state_of(child: Registration) -> str:
    if child.present:
        return str(child.notes.get(BELOW, THERE))
    return FINISHED if child.finished else GONE


def trains(children: Iterable[Registration]) -> bool:
    """Whether one of those that are present is in the midst of training."""
    return any(child.notes.get(TRAINS) for child in children)
