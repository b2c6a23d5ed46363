"""Data sets as `tf.data` pipelines, sampled by workers as in the thesis."""

from tf_elastic.data.encoded_images import DamagedImage
from tf_elastic.data.encoded_images import damaged_images
from tf_elastic.data.errors import DamagedDataError
from tf_elastic.data.loading import load
from tf_elastic.data.registered import register

__all__ = [
    "DamagedDataError",
    "DamagedImage",
    "damaged_images",
    "load",
    "register",
]
