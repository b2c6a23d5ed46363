"""A leaf's exchange with its parent in a tree, on its devices."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_elastic.core import one_way
from tf_elastic.core import rules
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.core.rules.base import CENTER
from tf_elastic.strategies.center_elastic import ElasticCenterExchange
from tf_elastic.strategies.center_exchange import Flat
from tf_elastic.strategies.center_exchange import Tensors


class TreeExchange(ElasticCenterExchange):
    """Points leave, points arrive: Algorithm 6 at a leaf.

    What arrives is the parent's point, NaN where no shard has sent any. For
    arguments see `ElasticCenterExchange`.
    """

    moments = ("after",)  # the head of the loop of the next step

    def _pull_on(self, i: int) -> Callable[..., Tensors]:
        def pull(moving_rate: tf.Tensor, flat: Tensors) -> Tensors:
            for parameter, came in zip(
                self.parameters, self._cut(flat), strict=False
            ):
                store, x = parameter.variable.store, parameter.point(i)
                rule = rules.for_dtype(self._spec.rule, x.dtype.name)
                rate = tf.cast(moving_rate, wide_dtype(x.dtype.name))
                slots = one_way.from_parent(
                    rule, came, {CENTER: x}, one_way.rates_by(rate)
                )
                # The velocity stays: a look-ahead point moves by as much.
                moved = store.read(i) + (slots[CENTER] - x)
                if not parameter.looks_ahead:
                    moved = slots[CENTER]
                away = tf.math.is_nan(came)
                store.assign(i, tf.where(away, store.read(i), moved))
            return []

        return pull

    def restart(self, flat: Flat) -> None:
        """Begins again where points have come, the velocity at zero.

        Args:
            flat: of the sections, NaN where none has come.
        """
        values = self._cut(flat)
        for i, device in enumerate(self._devices):
            with tf.device(device):
                for variable, value in zip(
                    self._variables, values, strict=True
                ):
                    store = variable.store
                    here = store.read(i)
                    away = (
                        np.isnan(value)
                        if isinstance(value, np.ndarray)
                        else tf.math.is_nan(value)
                    )
                    store.assign(i, tf.where(away, here, value))
                self._begin_anew(i)

    def _move_to(self, flat: Flat) -> None:
        self.restart(flat)
        self.show(flat)
