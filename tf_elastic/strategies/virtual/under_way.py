"""What a virtual cluster is in the midst of, for files."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_elastic import compat

Set = tuple[Callable[[np.ndarray], object], np.ndarray]


class UnderWay(compat.Trackable):  # type: ignore[misc]
    """Messages under way, and whose turn it is; a checkpoint finds it.

    Args:
        variables: what there is.
        with_variables: of a model, what of it begins anew when one is set, by
            `id`.
        state: one of them, which tells whose turn it is.
        give_turn: makes a state the one that is now, with its turn.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        with_variables: Mapping[int, Sequence[tf.Variable]],
        state: tf.Variable,
        give_turn: Callable[[tf.Tensor], None],
    ) -> None:
        self._variables = {
            f"UNDER_WAY_{k}": variable
            for k, variable in enumerate([state, *variables])
        }
        self._with_variables = with_variables
        self._give_turn = give_turn

    def values(self) -> dict[str, np.ndarray]:
        """What there is, by name, in eager code."""
        return {name: v.numpy() for name, v in self._variables.items()}

    def resume(self, values: Mapping[str, np.ndarray]) -> dict[int, list[Set]]:
        """Goes on from what `values` gave, in eager code.

        What is of another cluster is left: then this one begins anew.

        Returns:
            What is to be set once more with variables of a model, by their
            `id`: how, and to what.
        """
        if any(
            name not in values
            or not variable.shape.is_compatible_with(np.shape(values[name]))
            for name, variable in self._variables.items()
        ):
            return {}
        self._take(values)
        names = {id(v): name for name, v in self._variables.items()}
        return {
            leader: [(v.assign, values[names[id(v)]]) for v in variables]
            for leader, variables in self._with_variables.items()
        }

    def _take(self, values: Mapping[str, tf.Tensor | np.ndarray]) -> None:
        state, *others = self._variables
        for name in others:
            variable = self._variables[name]
            variable.assign(tf.cast(values[name], variable.dtype))
        self._give_turn(tf.cast(values[state], tf.int64))

    # For `tf.train.Checkpoint`.

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        restored = compat.restored_from()
        if restored is not None and restored.names != set(self._variables):
            return {}
        return {name: v.read_value() for name, v in self._variables.items()}

    def _restore_from_tensors(
        self, restored_tensors: dict[str, tf.Tensor]
    ) -> tf.Operation:
        if restored_tensors and all(
            variable.shape.is_compatible_with(restored_tensors[name].shape)
            for name, variable in self._variables.items()
        ):
            self._take(restored_tensors)
        return tf.no_op()
