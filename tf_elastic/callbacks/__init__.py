"""Callbacks for `fit`: what is written down, epochs together, momentum."""

from tf_elastic.callbacks.elastic_monitor import ElasticMonitor
from tf_elastic.callbacks.momentum_controller import MomentumController
from tf_elastic.callbacks.shared_epochs import SharedEpochs

__all__ = [
    "ElasticMonitor",
    "MomentumController",
    "SharedEpochs",
]
