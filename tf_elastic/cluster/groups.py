"""The shards that one server holds: one for each optimizer of a model.

An optimizer and the variables that it trains are a *group*, numbered from 0 in
the order in which the optimizers were built. Groups know nothing of each other:
each has its own layout, rule, version, members and rounds, so that a GAN's two
networks have two centers on the same servers.
"""

import threading
from collections.abc import Callable
from collections.abc import Iterator

from tf_elastic.cluster import wire
from tf_elastic.cluster.shard import Shard


class Groups:
    """The shards of one server, by group; each is made when it is asked for.

    Args:
        make_shard: makes one that is empty.
    """

    def __init__(self, make_shard: Callable[[], Shard]) -> None:
        self._make = make_shard
        self._lock = threading.Lock()
        self._shards = [make_shard()]

    def __getitem__(self, group: int) -> Shard:
        """The shard of a group, below `wire.MAX_GROUPS`."""
        with self._lock:
            while len(self._shards) <= group < wire.MAX_GROUPS:
                self._shards.append(self._make())
            return self._shards[group]

    def __iter__(self) -> Iterator[Shard]:
        with self._lock:
            return iter(list(self._shards))

    @property
    def first(self) -> Shard:
        """The one of the first optimizer."""
        return self[0]

    @classmethod
    def of(cls, shards: "Shard | Groups") -> "Groups":
        """Groups whose first one is a shard that is there already."""
        if isinstance(shards, Groups):
            return shards
        waiting = [shards]
        return cls(lambda: waiting.pop() if waiting else shards.empty_twin())
