"""Strategies: where variables live and when exchanges happen."""

from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.strategies.elastic_mirrored import ElasticMirroredStrategy
from tf_elastic.strategies.elastic_multi_worker import (
    ElasticMultiWorkerStrategy,
)
from tf_elastic.strategies.elastic_tree import ElasticTreeStrategy
from tf_elastic.strategies.multi_worker_mirrored import (
    MultiWorkerMirroredStrategy,
)
from tf_elastic.strategies.step_times import StepTimes
from tf_elastic.strategies.views import center_view
from tf_elastic.strategies.views import worker_view
from tf_elastic.strategies.virtual.virtual_cluster import VirtualClusterStrategy

__all__ = [
    "ElasticMirroredStrategy",
    "ElasticMultiWorkerStrategy",
    "ElasticTreeStrategy",
    "Timeouts",
    "MultiWorkerMirroredStrategy",
    "StepTimes",
    "VirtualClusterStrategy",
    "center_view",
    "worker_view",
]
