"""What all calls of a center server work with."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from tf_elastic.cluster import tree_numbers
from tf_elastic.cluster.center.center_state import CenterState
from tf_elastic.cluster.center.registration import Registration
from tf_elastic.cluster.center.sync_rounds import SyncRounds
from tf_elastic.cluster.center.worker_registry import WorkerRegistry
from tf_elastic.timeline.stream import Stream

News = dict[str, Any]


@dataclasses.dataclass
class NodeParts:
    """Of one center server; they know nothing of each other."""

    num_shards: int  # how many center servers there are
    state: CenterState  # what it holds
    registry: WorkerRegistry  # its workers
    now: Callable[[], float]  # a clock, in seconds
    events: Stream  # is told what happens
    rounds: SyncRounds = dataclasses.field(default_factory=SyncRounds)
    # Held by whoever changes anything; told when there is something new.
    changed: threading.Condition = dataclasses.field(
        default_factory=threading.Condition
    )
    refusals: int = 0  # of workers with another model
    last_refusal: str = ""
    # That others than this node's workers have trained on, in a tree.
    samples_elsewhere: int = 0
    in_tree: bool = False

    def told(self, worker: int) -> dict[str, Any]:
        """The fields of an event that say which worker, or child, it is of."""
        if not self.in_tree:
            return {"worker": worker}
        return tree_numbers.told(worker, self.num_shards, self.state.index)

    def news(self, member: Registration | None = None) -> News:
        """What every answer tells, as of now; JSON.

        Args:
            member: who asks; it is told of its own samples.
        """
        own = {} if member is None else {"own_samples": member.samples}
        return {
            **own,
            "shard": self.state.index,
            "num_shards": self.num_shards,
            "version": self.state.version,
            "ready": self.state.arrays is not None,
            "num_workers": self.registry.num_workers,
            "total_samples": (
                self.registry.total_samples + self.samples_elsewhere
            ),
            "round": self.rounds.round,
            "instruction": self.registry.instruction._asdict(),
            "refusals": self.refusals,
            "last_refusal": self.last_refusal,
        }
