"""Which exchange belongs to a step: of all variables, or of some."""

from collections.abc import Iterable

import keras
import tensorflow as tf

from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.strategy_interface import ElasticExtended
from tf_elastic.optimizers.strategy_interface import Exchange


class StepExchanges:
    """The exchange of an optimizer, and those of steps that train a part.

    Args:
        extended: of the strategy, which makes them.
        spec: what is exchanged of all variables.
        jit_compile: whether they are compiled by XLA: True, False or "auto".
    """

    def __init__(
        self,
        extended: ElasticExtended,
        spec: Spec,
        jit_compile: bool | str,
    ) -> None:
        self._extended = extended
        self._spec = spec
        self._jit_compile = jit_compile
        self.whole = extended.make_exchange(spec, jit_compile)
        self.in_use = self.whole  # that of the step that was built last
        self._of_some: dict[tuple[int, ...], Exchange] = {}

    def of_all(self) -> Exchange:
        """The exchange of a step that trains all variables."""
        self.in_use = self.whole
        return self.whole

    def of(self, numbers: Iterable[int]) -> Exchange:
        """The exchange of a step that trains some variables.

        Args:
            numbers: theirs, among those that the optimizer was built with.
        """
        indices = tuple(sorted(numbers))
        if len(indices) >= len(self.whole.parameters):
            return self.of_all()
        if indices not in self._of_some:
            self._of_some[indices] = self._extended.narrow(
                self.whole, self._spec, indices, self._jit_compile
            )
        self.in_use = self._of_some[indices]
        return self.in_use


def exchange_across(
    strategy: tf.distribute.Strategy,
    due: tf.Tensor,
    clock: tf.Tensor,
    *,
    moment: str,
    exchange: Exchange,
    center_step: keras.Variable,
    is_averaged: bool,
) -> None:
    """Exchanges if it is time; in cross-replica context.

    Args:
        strategy: of the optimizer.
        due: of each replica whether it is time: the same.
        clock: of each replica its worker's local steps: the same.
        moment: "before" or "after" the local step.
        exchange: which one.
        center_step: how many there were; counts this one.
        is_averaged: whether an average of the center is taken.
    """
    first_due, first_clock = (
        strategy.experimental_local_results(value)[0] for value in (due, clock)
    )

    def exchanged() -> None:
        center_step.assign_add(1)
        if is_averaged:
            strategy.extended.refresh_center(exchange)

    strategy.extended.exchange_if(
        moment,
        first_due,
        exchange,
        first_clock,
        tf.convert_to_tensor(center_step.value),
        then=exchanged,
    )
