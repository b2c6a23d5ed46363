"""The networks of the papers."""

from tf_elastic.models.cifar import cifar_convnet
from tf_elastic.models.cifar_lowrank import cifar_lowrank_convnet
from tf_elastic.models.digits import digits_convnet
from tf_elastic.models.imagenet import imagenet_convnet
from tf_elastic.models.resnets import resnet
from tf_elastic.models.resnets import sphere_resnet
from tf_elastic.models.sphere_conv import Orthogonality
from tf_elastic.models.sphere_conv import SphereConv2D

__all__ = [
    "Orthogonality",
    "SphereConv2D",
    "cifar_convnet",
    "cifar_lowrank_convnet",
    "digits_convnet",
    "imagenet_convnet",
    "resnet",
    "sphere_resnet",
]
