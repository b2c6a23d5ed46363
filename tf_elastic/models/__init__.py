"""The networks of the papers."""

from tf_elastic.models.cifar import cifar_convnet
from tf_elastic.models.cifar_lowrank import cifar_lowrank_convnet
from tf_elastic.models.digits import digits_convnet

__all__ = ["cifar_convnet", "cifar_lowrank_convnet", "digits_convnet"]
