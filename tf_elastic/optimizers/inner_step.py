"""A local step that is any Keras optimizer's."""

from collections.abc import Sequence
from typing import Any

import keras

from tf_elastic import compat
from tf_elastic.optimizers import nested
from tf_elastic.optimizers.around_inner import AroundInner
from tf_elastic.optimizers.center_optimizer import CenterOptimizer
from tf_elastic.optimizers.compiled import FusedUpdate
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.optimizers.worker_step import replica_device
from tf_elastic.optimizers.worker_step import scale_gradients

# Arguments of `CenterOptimizer` that the inner optimizer has itself.
_OF_INNER = (
    "learning_rate",
    "weight_decay",
    "clipnorm",
    "global_clipnorm",
    "clipvalue",
    "use_ema",
    "ema_momentum",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


class InnerStep(AroundInner, CenterOptimizer):
    """Mixin: workers take the steps of an inner optimizer.

    Its learning rate, clipping, weight decay, gradient accumulation and slots
    are each worker's own.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name. It
            becomes part of this one.
        **kwargs: of the other bases.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: it has an average of its own.
    """

    def __init__(
        self, inner_optimizer: keras.optimizers.Optimizer | str, **kwargs: Any
    ) -> None:
        if isinstance(inner_optimizer, str):
            inner_optimizer = keras.optimizers.get(inner_optimizer)
        self._check_inner(inner_optimizer)
        super().__init__(0.0, **kwargs)
        self._set_inner(inner_optimizer)

    def _stepper(self) -> keras.optimizers.Optimizer:
        return self.inner_optimizer

    def _calls_per_step(self) -> int:
        return nested.calls_per_step(self.inner_optimizer)

    def _build_variables(self, variables: Sequence[keras.Variable]) -> None:
        self._check_inner_scope()  # also before this one has variables
        super()._build_variables(variables)
        self._build_inner(variables)

    def _local_step(
        self, grads: Sequence[Gradient], trainable_variables: Sequence | None
    ) -> None:
        grads = scale_gradients(grads, self._own_scale())
        self.inner_optimizer.apply(grads, trainable_variables)

    def _make_local(self, stepper: keras.optimizers.Optimizer) -> None:
        whole = compat.has_step_of_all(stepper)
        fused = FusedUpdate(self.jit_compile, whole)
        compat.make_local(
            stepper, lambda *update: fused(*update, replica_device())
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        for name in _OF_INNER:
            config.pop(name, None)
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            **config,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "InnerStep":
        """Makes an equal optimizer from `get_config`'s answer."""
        inner = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "inner_optimizer": inner})

    def _check_inner(self, inner_optimizer: object) -> None:
        if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
            kind = type(inner_optimizer)
            raise TypeError(
                "`inner_optimizer` must be a `keras.optimizers.Optimizer` or "
                "the name of one. Received: inner_optimizer="
                f"{kind.__module__}.{kind.__qualname__}. Optimizers of other "
                "libraries work on other variables; use its counterpart in "
                "`keras.optimizers`."
            )
        name = type(self).__name__
        for inner in nested.optimizers_in(inner_optimizer):
            if isinstance(
                inner, (keras.optimizers.LossScaleOptimizer, CenterOptimizer)
            ):
                raise TypeError(
                    f"{type(inner).__name__} cannot be inside of `{name}`. "
                    "Put a LossScaleOptimizer outside: "
                    f"`LossScaleOptimizer({name}(...))`; an optimizer with a "
                    "center needs no second one around it."
                )
            if inner.use_ema:
                of = ""
                if inner is not inner_optimizer:
                    of = f" of {type(inner).__name__} inside of it"
                raise ValueError(
                    "`use_ema` of the inner optimizer would average each "
                    f"worker, not the center. Received: use_ema=True{of}. "
                    "Leave it out; the center is an average over time and "
                    "workers already."
                )
