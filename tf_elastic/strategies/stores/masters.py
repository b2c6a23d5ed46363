"""Masters: the centers of variables of 16 bits, in float32.

What is read, evaluated and saved is the center, of the variable's own dtype.
Beside it is its master, by which exchanges move it: see `core.rules.master`.

A master counts where it rounds to its center. Whoever has set the center to
something else (a callback, a file, an average that takes its place) has so set
the master too.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core.arrays import wide_dtype
from tf_elastic.strategies.stores.worker_store import Create
from tf_elastic.strategies.stores.worker_store import TensorLike


def masters_of(
    centers: Sequence[tf.Variable],
    create: Create,
    arguments: Mapping[str, Any],
) -> Sequence[tf.Variable]:
    """Makes the masters of a center's copies; none of 32 bits and more.

    Args:
        centers: one on each device.
        create: makes one variable on each device, of `arguments`.
        arguments: of a variable creator, of the centers.
    """
    first = centers[0]
    wide = wide_dtype(first.dtype.name)
    if wide == first.dtype.name:
        return ()
    return create(
        **{
            **arguments,
            "initial_value": lambda: tf.cast(first.read_value(), wide),
            "dtype": tf.as_dtype(wide),
            "name": f"{arguments.get('name') or 'Variable'}/master",
            "trainable": False,
        }
    )


def exact_center(center: tf.Variable, master: tf.Variable | None) -> tf.Tensor:
    """The center as exact as it is known.

    Args:
        center: a copy of it.
        master: of this copy; None if there is none.
    """
    value = center.read_value()
    if master is None:
        return value
    kept = master.read_value()
    # Bits, since XLA may compare floats of 16 bits unrounded.
    bits = tf.bitcast(tf.cast(kept, value.dtype), tf.int16)
    same = tf.equal(bits, tf.bitcast(value, tf.int16))
    return tf.where(same, kept, tf.cast(value, kept.dtype))


def set_all_copies(
    centers: Sequence[tf.Variable],
    masters: Sequence[tf.Variable],
    value: TensorLike,
) -> None:
    """Sets all copies, each on its device.

    Args:
        centers: of the center.
        masters: of these; none if there are none.
        value: of the variable's shape; with masters of any floating dtype.
    """
    for copy in (*centers, *masters):
        with tf.device(copy.device):
            new = tf.cast(value, copy.dtype) if masters else value
            copy.assign(new, read_value=False)
