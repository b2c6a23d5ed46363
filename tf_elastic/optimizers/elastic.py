"""Any Keras optimizer, made elastic."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.optimizers.elastic_optimizer import ElasticOptimizer
from tf_elastic.optimizers.elastic_optimizer import replica_device
from tf_elastic.optimizers.elastic_optimizer import scale_gradients

_REFUSED = (
    keras.optimizers.LossScaleOptimizer,
    ElasticOptimizer,
)


@keras.saving.register_keras_serializable("tf_elastic")
class Elastic(ElasticOptimizer):
    r"""Elastic averaging around any Keras optimizer.

    Every worker takes the inner optimizer's steps on its own gradients, with
    its own slots; every :math:`\tau` steps it and the center give way to each
    other:

    .. math::
        x^i &\leftarrow x^i - \alpha (x^i - \tilde x) \\
        \tilde x &\leftarrow (1 - \beta) \tilde x
            + \beta \frac1p \sum_i x^i

    The inner optimizer's learning rate, clipping, weight decay, gradient
    accumulation and average act within each worker. What is exchanged is
    what the inner optimizer stores in the model's variables; for
    `SGD(nesterov=True)` that is the look-ahead point, so use `EAMSGD` where
    the thesis' form is wanted.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name, such as
            "adam". It becomes part of this optimizer: do not use it
            elsewhere.
        moving_rate: :math:`\alpha`. Default: beta / p.
        beta: :math:`\beta`. Default 0.9, the thesis'.
        communication_period: :math:`\tau`, local steps, >= 1; None for no
            exchange. Default 10.
        symmetric: see `ElasticOptimizer`.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: an argument is out of its range; the message names it.

    Example:

    ```python
    te.optimizers.Elastic(
        keras.optimizers.AdamW(1e-3), communication_period=10
    )
    ```

    Reference:
        Zhang (2016), Algorithm 1, with another local step.
    """

    def __init__(
        self,
        inner_optimizer: Any,
        moving_rate: float | None = None,
        beta: float | None = None,
        communication_period: int | None = 10,
        symmetric: bool = True,
        jit_compile: bool | str = "auto",
        name: str = "elastic",
    ) -> None:
        inner_optimizer = _checked(inner_optimizer)
        super().__init__(
            0.0,
            moving_rate=moving_rate,
            beta=beta,
            communication_period=communication_period,
            symmetric=symmetric,
            jit_compile=jit_compile,
            name=name,
        )
        compat.make_local(inner_optimizer, self._fused_inner_update)
        self.inner_optimizer = inner_optimizer

    @property
    def variables(self) -> list[keras.Variable]:
        """This optimizer's variables, then the inner one's."""
        return super().variables + self.inner_optimizer.variables

    @property
    def iterations(self) -> Any:
        """The inner optimizer's count of local steps."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    def _stepper(self) -> keras.optimizers.Optimizer:
        return self.inner_optimizer

    def scale_loss(self, loss: Any) -> Any:
        """Scales the loss as the inner optimizer asks for."""
        return self.inner_optimizer.scale_loss(loss)

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        inner = self.inner_optimizer
        if inner._distribution_strategy is not self._distribution_strategy:
            raise ValueError(
                "The inner optimizer must be created in the scope of the same "
                "strategy as `Elastic`. Received: inner_optimizer="
                f"{type(inner).__name__} of another scope. Create both inside "
                "`with strategy.scope():`."
            )
        super()._build_variables(variables)
        inner.build(variables)

    def _local_step(
        self, grads: Sequence[Any], trainable_variables: Sequence | None
    ) -> None:
        grads = scale_gradients(grads, self._own_scale())
        self.inner_optimizer.apply(
            [_one_slice_per_row(grad) for grad in grads], trainable_variables
        )

    def _fused_inner_update(
        self, step: Any, grads: Any, variables: Any, learning_rate: Any
    ) -> None:
        self._fused(step, grads, variables, learning_rate, replica_device())

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        own = (
            "moving_rate",
            "beta",
            "communication_period",
            "symmetric",
            "jit_compile",
            "name",
        )
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            **{name: config[name] for name in own},
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "Elastic":
        """Makes an equal optimizer from `get_config`'s answer."""
        inner = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "inner_optimizer": inner})


def _one_slice_per_row(grad: Any) -> Any:
    """Adds up the slices of a sparse gradient that fall on the same row.

    An embedding that looks a row up twice gets two slices. Keras squares them
    one by one (for Adam's second moment, say), not their sum.
    """
    if not isinstance(grad, tf.IndexedSlices):
        return grad
    rows, positions = tf.unique(grad.indices)
    values = tf.math.unsorted_segment_sum(
        grad.values, positions, tf.shape(rows)[0]
    )
    return tf.IndexedSlices(values, rows, grad.dense_shape)


def _checked(inner_optimizer: Any) -> keras.optimizers.Optimizer:
    """The inner optimizer, if it can be one."""
    if isinstance(inner_optimizer, str):
        inner_optimizer = keras.optimizers.get(inner_optimizer)
    if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
        kind = type(inner_optimizer)
        raise TypeError(
            "`inner_optimizer` must be a `keras.optimizers.Optimizer` or the "
            f"name of one. Received: inner_optimizer={kind.__module__}."
            f"{kind.__qualname__}. Optimizers of other libraries work on "
            "other variables; use its counterpart in `keras.optimizers`."
        )
    if isinstance(inner_optimizer, _REFUSED):
        raise TypeError(
            f"{type(inner_optimizer).__name__} cannot be inside of `Elastic`. "
            "Put a LossScaleOptimizer outside: `LossScaleOptimizer(Elastic("
            "...))`; an elastic optimizer needs no second one around it."
        )
    if inner_optimizer.use_ema:
        raise ValueError(
            "`use_ema` of the inner optimizer would average each worker, not "
            "the center. Received: use_ema=True. Leave it out; the center "
            "is an average over time and workers already."
        )
    return inner_optimizer
