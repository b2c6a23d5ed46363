"""What the inner nodes of a tree keep, on one device."""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_elastic.core.arrays import wide_dtype
from tf_elastic.core.rules import Rule
from tf_elastic.core.rules.base import CENTER
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.virtual.mail import Mail
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.pieces import Parents
from tf_elastic.strategies.virtual.places import Tensors
from tf_elastic.strategies.virtual.set_anew import AllAnew


class InnerNodes:
    """A row for each, of all slots of its rule, and its numbers.

    Args:
        rule: of an inner node.
        variables: of a model: parameters, then statistics. They hold weakly
            what begins anew with them.
        num_parameters: how many of these are parameters.
        num_nodes: q.
        device: where it is.
        initial: gives where all begin, of all variables.
    """

    def __init__(
        self,
        rule: Rule,
        variables: Sequence[ElasticVariable],
        num_parameters: int,
        num_nodes: int,
        device: str,
        initial: Callable[[], Tensors],
    ) -> None:
        self._num_parameters = num_parameters
        self._mails: dict[str, Mail] = {}
        self._anew: list[AllAnew] = []
        for name in rule.init(np.ones(1)):
            # Statistics have a center alone.
            own = variables if name == CENTER else variables[:num_parameters]

            def begins(value: tf.Tensor, name: str = name) -> tf.Tensor:
                return rule.init(value)[name]

            # A velocity stays when weights are set, as the center's does.
            is_motion = bool(np.all(rule.init(np.ones(1))[name] == 0))
            self._mails[name] = mail = Mail(
                [variable.shape for variable in own],
                [tf.as_dtype(wide_dtype(v.dtype.name)) for v in own],
                num_nodes,
                device,
                lambda begins=begins: [*map(begins, initial())],
            )
            for variable, rows in zip(own, mail.variables, strict=True):
                self._anew.append(AllAnew(rows))
                variable.begins_anew_with(self._anew[-1], begins, is_motion)
        with tf.device(device):
            self.numbers = {
                name: tf.Variable(
                    tf.fill([num_nodes], tf.constant(number, tf.float64)),
                    trainable=False,
                )
                for name, number in rule.numbers.items()
                if num_nodes
            }

    @property
    def variables(self) -> list[tf.Variable]:
        """All of it."""
        mails = self._mails.values()
        return [
            *(v for m in mails for v in m.variables),
            *self.numbers.values(),
        ]

    def of_variable(self, k: int) -> list[tf.Variable]:
        """What there is of a variable of the model, by its place."""
        return [m.variables[k] for m in self._mails.values() if m.has(k)]

    def centers(self) -> Tensors:
        """Where all are, of each variable, of shape (q, ...)."""
        return [v.read_value() for v in self._mails[CENTER].variables]

    def points(self, node: tf.Tensor) -> Tensors:
        """Where one is, of all variables.

        Args:
            node: its number, from 0, int64 scalar.
        """
        return self._mails[CENTER].row(node)

    def read(self, node: tf.Tensor) -> Parents:
        """All that one keeps, of all variables; argument as of `points`."""
        return [
            {
                name: mail.get(node, k)
                for name, mail in self._mails.items()
                if mail.has(k)
            }
            for k in range(len(self._mails[CENTER].variables))
        ]

    def write(
        self, node: tf.Tensor, slots: Parents, packed: Packed | None = None
    ) -> None:
        """One has moved.

        Args:
            node: see `points`.
            slots: what it keeps from now on.
            packed: the rates by which it has moved: its numbers are among
                them. None if they have not changed.
        """
        for k, of_variable in enumerate(slots):
            for name, value in of_variable.items():
                self._mails[name].put(node, k, value)
        if packed is not None:
            for name, variable in self.numbers.items():
                variable.scatter_nd_update([[node]], [packed[0][name]])
