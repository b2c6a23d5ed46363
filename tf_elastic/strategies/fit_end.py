"""The end of `fit`, for optimizers that Keras does not end."""

import weakref
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TypeAlias

import keras

from tf_elastic import compat

Optimizer: TypeAlias = keras.optimizers.Optimizer
# One that has trained, and its variables.
Trained = tuple[Optimizer, Sequence[keras.Variable]]


class FitEnd:
    """Ends all optimizers that a model's `train_step` has trained with.

    Keras ends the one of `compile(optimizer=...)`; a GAN has others beside, or
    instead of it.
    """

    def __init__(self) -> None:
        # By the optimizer that Keras ends, those that end with it.
        self._others: weakref.WeakKeyDictionary[
            Optimizer, dict[int, Trained]
        ] = weakref.WeakKeyDictionary()

    def is_of(self, model: object, trained: Sequence[Trained]) -> None:
        """Notes who has trained in a step.

        Args:
            model: whose step it was; anything else has no end.
            trained: the optimizers that took part, and their variables.
        """
        ended = getattr(model, "optimizer", None)
        if not isinstance(model, keras.Model) or not isinstance(
            ended, keras.optimizers.Optimizer
        ):
            return
        ends = set(map(id, _inside(ended)))
        others = {
            id(each): (each, own)
            for each, own in trained
            if id(each) not in ends
        }
        if not others:
            return
        if ended not in self._others:
            known: dict[int, Trained] = {}
            self._others[ended] = known
            compat.at_end_of(ended, lambda: _end(list(known.values())))
        self._others[ended].update(others)


def _inside(optimizer: Optimizer) -> Iterator[Optimizer]:
    """An optimizer, and those that it is made of."""
    yield optimizer
    for value in vars(optimizer).values():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, keras.optimizers.Optimizer):
                yield from _inside(each)


def _end(others: Sequence[Trained]) -> None:
    for optimizer, variables in others:
        optimizer.finalize_variable_values(variables)
