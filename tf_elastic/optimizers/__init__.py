"""Keras optimizers: what is exchanged, and the local steps in between."""

from tf_elastic.optimizers import schedules
from tf_elastic.optimizers.averaged import ASGD
from tf_elastic.optimizers.averaged import MVASGD
from tf_elastic.optimizers.eamsgd import EAMSGD
from tf_elastic.optimizers.easgd import EASGD
from tf_elastic.optimizers.elastic import Elastic
from tf_elastic.optimizers.elastic_optimizer import ElasticOptimizer
from tf_elastic.optimizers.worker_state import CheckpointWarning

__all__ = [
    "ASGD",
    "MVASGD",
    "EAMSGD",
    "EASGD",
    "CheckpointWarning",
    "Elastic",
    "ElasticOptimizer",
    "schedules",
]
