"""What becomes of a model's variables that a training step does not train.

- What nothing moves in a step of training (frozen layers, their statistics)
  is the same on all workers and the center, and stays put.
- What the step assigns to without training it (the exponential average of a
  network, a target network) is each worker's own; its center follows.
- What another optimizer moves in steps of its own is left to that one.
"""

import weakref
from collections.abc import Callable
from collections.abc import Iterable

import keras
import tensorflow as tf

from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.step import Step


class Untrained:
    """Looks after these variables, step by step, as steps are built.

    Args:
        variables: gives the elastic variables of the strategy that live.
    """

    def __init__(
        self, variables: Callable[[], Iterable[ElasticVariable]]
    ) -> None:
        self._variables = variables
        # What the newest steps of an optimizer have trained and moved.
        self._moved_by: weakref.WeakKeyDictionary[
            keras.optimizers.Optimizer, tuple[set[int], set[int]]
        ] = weakref.WeakKeyDictionary()
        self._resting: set[int] = set()

    def followers(self, step: Step) -> list[ElasticVariable]:
        """What a step assigns to without training it, under no tape.

        (What a layer assigns under the tape is a statistic, as the moving mean
        of a batch normalization.)
        """
        trained = _trained(step)
        return [
            variable
            for variable in self._variables()
            if id(variable) in step.moved.beside and id(variable) not in trained
        ]

    def put_to_rest(self, step: Step) -> None:
        """Sets workers to the center in what nothing moves any more.

        Args:
            step: one of training, that has been built.
        """
        trained = _trained(step)
        moved = set(step.moved.all) | trained
        applied = [optimizer for optimizer, _, _ in step.optimizers]
        others: set[int] = set()
        for optimizer, of_other in list(self._moved_by.items()):
            if optimizer in applied:
                continue
            if of_other[0] & trained or _is_frozen(optimizer):
                del self._moved_by[optimizer]
            else:
                others |= of_other[1]
        for optimizer in applied:
            self._moved_by[optimizer] = (trained, moved)
        resting = {
            id(variable): variable
            for variable in self._variables()
            if id(variable) not in moved | others
        }
        if set(resting) <= self._resting and tf.executing_eagerly():
            return  # They have been at rest since the step before.
        self._resting = set(resting)
        with tf.init_scope():
            for variable in resting.values():
                if not variable.is_at_rest():
                    variable.come_to_rest()


def _trained(step: Step) -> set[int]:
    return {
        id(variable)
        for _, _, variables in step.optimizers
        for variable in variables
    }


def _is_frozen(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether something that an optimizer trains is frozen by now."""
    return any(
        not getattr(variable, "trainable", True)
        for variable in optimizer._trainable_variables
    )
