"""What an optimizer around another one takes from it."""

from typing import Any

import keras


class AroundInner(keras.optimizers.Optimizer):
    """Mixin: the steps, and so their clock and rate, are `inner_optimizer`'s.

    A subclass sets `inner_optimizer` in its constructor.
    """

    inner_optimizer: keras.optimizers.Optimizer

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

    def scale_loss(self, loss: Any) -> Any:
        """Scales the loss as the inner optimizer asks for."""
        return self.inner_optimizer.scale_loss(loss)

    def _check_inner_scope(self) -> None:
        """Refuses an inner optimizer of another strategy's scope.

        Raises:
            ValueError: it is.
        """
        inner = self.inner_optimizer
        if inner._distribution_strategy is not self._distribution_strategy:
            raise ValueError(
                "The inner optimizer must be created in the scope of the same "
                f"strategy as `{type(self).__name__}`. Received: "
                f"inner_optimizer={type(inner).__name__} of another scope. "
                "Create both inside `with strategy.scope():`."
            )
