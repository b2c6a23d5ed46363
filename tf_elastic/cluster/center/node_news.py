"""What every answer of a center server tells."""

from typing import Any

from tf_elastic.cluster.center.admission import Admission
from tf_elastic.cluster.center.center_state import CenterState
from tf_elastic.cluster.center.registration import Registration
from tf_elastic.cluster.center.sync_rounds import SyncRounds
from tf_elastic.cluster.center.worker_registry import WorkerRegistry

News = dict[str, Any]


class NodeNews:
    """Of one center server, from its parts.

    Args:
        num_shards: how many center servers there are.
        state: what it holds.
        registry: its workers.
        rounds: the synchronous exchanges.
        admission: whom it has refused.
    """

    def __init__(
        self,
        num_shards: int,
        state: CenterState,
        registry: WorkerRegistry,
        rounds: SyncRounds,
        admission: Admission,
    ) -> None:
        self._num_shards = num_shards
        self._state = state
        self._registry = registry
        self._rounds = rounds
        self._admission = admission

    def now(self, member: Registration | None = None) -> News:
        """As of now; JSON.

        Args:
            member: who asks; it is told of its own samples.
        """
        own = {} if member is None else {"own_samples": member.samples}
        return {
            **own,
            "shard": self._state.index,
            "num_shards": self._num_shards,
            "version": self._state.version,
            "ready": self._state.arrays is not None,
            "num_workers": self._registry.num_workers,
            "total_samples": self._registry.total_samples,
            "round": self._rounds.round,
            "instruction": self._registry.instruction._asdict(),
            "refusals": self._admission.refusals,
            "last_refusal": self._admission.last_refusal,
        }
