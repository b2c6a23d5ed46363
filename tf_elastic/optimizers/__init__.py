"""Keras optimizers: what is exchanged, and the local steps in between."""

from tf_elastic.core import delays
from tf_elastic.optimizers import schedules
from tf_elastic.optimizers.admm import ADMM
from tf_elastic.optimizers.async_diloco import AsyncDiLoCo
from tf_elastic.optimizers.async_momentum import AsyncMSGD
from tf_elastic.optimizers.async_momentum import MDownpour
from tf_elastic.optimizers.averaged import AveragedSGD
from tf_elastic.optimizers.averaged import MovingAverageSGD
from tf_elastic.optimizers.averaging import DiLoCo
from tf_elastic.optimizers.averaging import LocalSGD
from tf_elastic.optimizers.center_optimizer import CenterOptimizer
from tf_elastic.optimizers.delayed_gradient import DelayedGradient
from tf_elastic.optimizers.downpour import ADownpour
from tf_elastic.optimizers.downpour import Downpour
from tf_elastic.optimizers.downpour import MVADownpour
from tf_elastic.optimizers.eamsgd import EAMSGD
from tf_elastic.optimizers.easgd import EASGD
from tf_elastic.optimizers.elastic import Elastic
from tf_elastic.optimizers.elastic_optimizer import ElasticOptimizer
from tf_elastic.optimizers.halos import HALoS
from tf_elastic.optimizers.heloco import HeLoCo
from tf_elastic.optimizers.push_optimizer import PushOptimizer
from tf_elastic.optimizers.registry import register
from tf_elastic.optimizers.short_training import ShortTrainingWarning
from tf_elastic.optimizers.sync_sgd import SyncSGD
from tf_elastic.optimizers.worker_state import CheckpointWarning

__all__ = [
    "ADMM",
    "ADownpour",
    "AveragedSGD",
    "AsyncDiLoCo",
    "AsyncMSGD",
    "CenterOptimizer",
    "CheckpointWarning",
    "DelayedGradient",
    "DiLoCo",
    "Downpour",
    "EAMSGD",
    "EASGD",
    "Elastic",
    "ElasticOptimizer",
    "HALoS",
    "HeLoCo",
    "LocalSGD",
    "MDownpour",
    "MVADownpour",
    "MovingAverageSGD",
    "PushOptimizer",
    "ShortTrainingWarning",
    "SyncSGD",
    "delays",
    "register",
    "schedules",
]
