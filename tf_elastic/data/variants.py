"""The preprocessing variants of each data set, by name."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_elastic.data import preprocess
from tf_elastic.data import sources

_CIFAR_SIZE = 32
_CROP_SIZE = 28
_PADDING = 4
_DIGITS_PEAK = 16

VARIANTS = {
    "cifar10": ("crop", "lowrank", "pad"),
    "cifar100": ("crop", "lowrank", "pad"),
    "digits": ("plain",),
}
"""For each data set its variants, the default first."""


class Variant(NamedTuple):
    """How stored images become a network's input.

    The two functions return float32 [batch, height, width, channels].
    """

    sampling: str  # sampling of the training split, "loaders" or "uniform".
    num_codes: int  # augmentations to choose from for each image.
    train: Callable[..., tf.Tensor]  # (images, indices, codes) -> batch.
    evaluate: Callable[..., tf.Tensor]  # (uint8 batch) -> batch.


def _chosen(
    evaluate: Callable[..., tf.Tensor],
    images: tf.Tensor,
    indices: tf.Tensor,
    codes: tf.Tensor,
) -> tf.Tensor:
    """A `Variant.train` that does to training images what evaluation does."""
    del codes  # There is one only.
    return evaluate(tf.gather(images, indices))


def _crop(read_train: Callable[[], sources.Source]) -> Variant:
    del read_train  # The pixels are scaled by constants.
    return Variant(
        sampling="loaders",
        num_codes=preprocess.num_crops(_CIFAR_SIZE, _CROP_SIZE),
        train=functools.partial(preprocess.crop_and_flip, crop_size=_CROP_SIZE),
        evaluate=functools.partial(
            preprocess.center_crop, crop_size=_CROP_SIZE
        ),
    )


def _affine_variant(
    sampling: str, scale: float | tf.Tensor, shift: float | tf.Tensor
) -> Variant:
    evaluate = functools.partial(
        preprocess.affine,
        scale=tf.cast(scale, tf.float32),
        shift=tf.cast(shift, tf.float32),
    )
    return Variant(sampling, 1, functools.partial(_chosen, evaluate), evaluate)


def scaled(scale: float) -> Variant:
    """The variant "plain": numbers times `scale`, no augmentation."""
    with tf.device("CPU:0"):
        return _affine_variant("loaders", scale, 0.0)


def _lowrank(read_train: Callable[[], sources.Source]) -> Variant:
    mean, deviation = preprocess.channel_statistics(read_train().images)
    return _affine_variant("uniform", 1 / deviation, -mean / deviation)


def _pad(read_train: Callable[[], sources.Source]) -> Variant:
    mean, deviation = preprocess.channel_statistics(read_train().images)
    scale = tf.cast(1 / deviation, tf.float32)
    shift = tf.cast(-mean / deviation, tf.float32)

    def train(
        images: tf.Tensor, indices: tf.Tensor, codes: tf.Tensor
    ) -> tf.Tensor:
        crops = preprocess.crop_and_flip(
            images, indices, codes, _CIFAR_SIZE, _PADDING
        )
        return crops * (255 * scale) + shift

    return Variant(
        sampling="loaders",
        num_codes=preprocess.num_crops(_CIFAR_SIZE, _CIFAR_SIZE, _PADDING),
        train=train,
        evaluate=functools.partial(preprocess.affine, scale=scale, shift=shift),
    )


def _plain(read_train: Callable[[], sources.Source]) -> Variant:
    del read_train  # The pixels are scaled by constants.
    return scaled(1 / _DIGITS_PEAK)


_BUILDERS = {"crop": _crop, "lowrank": _lowrank, "pad": _pad, "plain": _plain}


def build_variant(
    name: str, read_train: Callable[[], sources.Source]
) -> Variant:
    """Builds a variant by name.

    Args:
        name: "crop", "lowrank", "pad" or "plain".
        read_train: Returns the training split; called only if it is needed.

    Returns:
        The variant.
    """
    with tf.device("CPU:0"):
        return _BUILDERS[name](read_train)
