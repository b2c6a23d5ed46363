"""Callbacks for `fit`: what is written down, epochs together, rates."""

from tf_elastic.callbacks.cut_on_stagnation import CutOnStagnation
from tf_elastic.callbacks.elastic_monitor import ElasticMonitor
from tf_elastic.callbacks.momentum_controller import MomentumController
from tf_elastic.callbacks.shared_epochs import SharedEpochs
from tf_elastic.callbacks.virtual_time import VirtualTime

__all__ = [
    "CutOnStagnation",
    "ElasticMonitor",
    "MomentumController",
    "SharedEpochs",
    "VirtualTime",
]
