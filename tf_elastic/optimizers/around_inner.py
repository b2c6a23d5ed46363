"""What an optimizer around another one takes from it."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.optimizers import nested


class AroundInner(keras.optimizers.Optimizer):
    """Mixin: the steps, and so their clock and rate, are `inner_optimizer`'s.

    A subclass calls `_set_inner` in its constructor and `_build_inner` where it
    is built. Then all optimizers inside, to any depth, step for one worker and
    leave saving to this one.
    """

    inner_optimizer: keras.optimizers.Optimizer
    steps_inner_optimizer = True  # for `nested`

    @property
    def variables(self) -> list[keras.Variable]:
        """This optimizer's variables, then the inner one's."""
        return super().variables + self.inner_optimizer.variables

    @property
    def iterations(self) -> keras.Variable:
        """The inner optimizer's count of local steps."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> keras.Variable:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def loss_scale_factor(self) -> float | None:
        """The inner optimizer's, which unscales the gradients."""
        return getattr(self.inner_optimizer, "loss_scale_factor", None)

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: float | None) -> None:
        if hasattr(self, "inner_optimizer"):  # not in Keras' constructor
            self.inner_optimizer.loss_scale_factor = factor

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales the loss as the inner optimizer asks for."""
        return self.inner_optimizer.scale_loss(loss)

    def _check_inner_scope(self) -> None:
        """Refuses an inner optimizer of another strategy's scope.

        Raises:
            ValueError: it is.
        """
        for inner in nested.optimizers_in(self.inner_optimizer):
            if inner._distribution_strategy is not self._distribution_strategy:
                raise ValueError(
                    "The inner optimizer must be created in the scope of the "
                    f"same strategy as `{type(self).__name__}`. Received: "
                    f"inner_optimizer={type(inner).__name__} of another "
                    "scope. Create both inside `with strategy.scope():`."
                )

    def _set_inner(self, inner_optimizer: keras.optimizers.Optimizer) -> None:
        self.inner_optimizer = inner_optimizer
        self._leave_saving()

    def _build_inner(self, variables: Sequence[keras.Variable]) -> None:
        """Builds the inner optimizer; some make others inside only then.

        Raises:
            TypeError, ValueError: one of these cannot be inside.
        """
        self._check_inner_scope()
        self.inner_optimizer.build(variables)
        self._check_inner(self.inner_optimizer)
        self._check_inner_scope()
        self._leave_saving()
        # An attribute, since a tf.train.Checkpoint does not find the optimizers
        # that Keras' `MultiOptimizer` holds.
        self._optimizers_inside = nested.optimizers_in(self.inner_optimizer)
        for stepper in nested.steppers_in(self.inner_optimizer):
            self._make_local(stepper)

    def _leave_saving(self) -> None:
        for inner in nested.optimizers_in(self.inner_optimizer):
            compat.leave_saving(inner)

    def _check_inner(self, inner_optimizer: object) -> None:
        """Refuses an optimizer that cannot be inside, or has one inside.

        Raises:
            TypeError, ValueError: it is one.
        """
        raise NotImplementedError

    def _make_local(self, stepper: keras.optimizers.Optimizer) -> None:
        """Makes an optimizer that takes steps do so for one worker."""
        raise NotImplementedError
