"""By which numbers a node of a tree knows its children, and by which names."""

from typing import Any

# A node's number among the children of its parent, from here on; below are
# those of the workers, of which there may be more and more.
NODES = 1 << 20


def name(child: int) -> str:
    """What a child is called in messages.

    Example:

    >>> name(3), name(NODES + 2)
    ('worker 3', 'node 2')
    """
    if child < NODES:
        return f"worker {child}"
    return f"node {child - NODES}"


def told(child: int, num_shards: int, shard: int) -> dict[str, Any]:
    """The fields of an event that say which child it is of.

    Args:
        child: its number.
        num_shards: center servers that a node of the tree is of.
        shard: which of them speaks with this child's.

    Example:

    >>> told(3, 2, 1)
    {'worker': 3, 'child': 'worker 3'}
    >>> told(NODES + 3, 2, 1)
    {'child': 'center 7'}
    """
    if child < NODES:
        return {"worker": child, "child": name(child)}
    return {"child": f"center {(child - NODES) * num_shards + shard}"}
