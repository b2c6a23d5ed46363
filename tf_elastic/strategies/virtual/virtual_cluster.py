"""A cluster of any size, rehearsed on one device in virtual time."""

from tf_elastic.strategies.elastic_strategy import ElasticStrategy
from tf_elastic.strategies.virtual.turns import Timeline
from tf_elastic.strategies.virtual.virtual_extended import (
    VirtualClusterExtended,
)
from tf_elastic.timeline.virtual.workload import Workload


class VirtualClusterStrategy(ElasticStrategy):
    def __init__(
        self, num_workers, *, timing=None, protocol=None, seed=0, device=None
    ):
        def make(workload: Workload) -> Timeline:
            return timing(workload, num_workers)

        super().__init__(
            VirtualClusterExtended(self, num_workers, device, protocol, make)
        )
