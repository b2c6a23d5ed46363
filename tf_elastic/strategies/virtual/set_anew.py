"""What is under way of a variable that is set from outside.

All workers and the center are at the new value then (a file is loaded,
`set_weights`), and nothing that has left before may bring the old ones back:
an answer is the new value, and there is no difference, nothing that was done,
and no gradient.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.core.rules import Rule
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.virtual.mail import Mail
from tf_elastic.timeline.virtual import moves

_KINDS = len(moves.NAMES) + 1  # the last: none


class UnderWayOf:
    """Begins anew with a variable, as an optimizer's memory of it does.

    Args:
        rule: by which the variable is exchanged.
        mail: a row for each worker.
        total: one row, of what a round adds up; None if there is none.
        written: gives the kind of the move that has written each worker's
            mail last, int64 of shape (p,).
    """

    def __init__(
        self,
        rule: Rule,
        mail: tf.Variable,
        total: tf.Variable | None,
        written: Callable[[], tf.Tensor],
    ) -> None:
        self._mail = mail
        self._total = total
        self._written = written
        self._has_point = np.zeros(_KINDS, bool)
        for kind in (moves.MAKE, moves.TURN_OVER):
            self._has_point[kind] = rule.sends == rules.POINT
        for kind in (moves.ARRIVE, moves.ANSWER):
            self._has_point[kind] = not rule.answers_difference

    @property
    def dtype(self) -> tf.DType:
        """Of the variable."""
        return self._mail.dtype

    def assign(self, value: tf.Tensor) -> None:
        """All begins anew at a value of the variable's shape."""
        has_point = tf.gather(self._has_point, self._written() % _KINDS)
        rank = self._mail.shape.rank
        has_point = tf.reshape(has_point, [-1] + [1] * (rank - 1))
        self._mail.assign(
            tf.where(has_point, value[tf.newaxis], tf.zeros_like(self._mail)),
            read_value=False,
        )
        if self._total is not None:
            self._total.assign(tf.zeros_like(self._total), read_value=False)


class AllAnew:
    """Points that begin anew with a variable, whoever's they are.

    Args:
        rows: a variable of a row for each.
    """

    def __init__(self, rows: tf.Variable) -> None:
        self._rows = rows

    @property
    def dtype(self) -> tf.DType:
        """Of the variable."""
        return self._rows.dtype

    def assign(self, value: tf.Tensor) -> None:
        """All begin anew at a value of the variable's shape."""
        self._rows.assign(
            tf.broadcast_to(value, tf.shape(self._rows)), read_value=False
        )


def under_way_of(
    variables: Sequence[ElasticVariable],
    rule_of: Callable[[int], Rule],
    mail: Mail,
    total: Mail,
    written: Callable[[], tf.Tensor],
) -> list[UnderWayOf]:
    """Lets what is under way begin anew with each of some variables.

    Args:
        variables: of a model.
        rule_of: the rule of each, by its place.
        mail: of all workers.
        total: of a round; empty if there are none.
        written: see `UnderWayOf`.

    Returns:
        Them; the variables hold them weakly.
    """
    totals = total.variables or [None] * len(variables)
    found = []
    for k, (variable, own, summed) in enumerate(
        zip(variables, mail.variables, totals, strict=True)
    ):
        found.append(UnderWayOf(rule_of(k), own, summed, written))
        variable.begins_anew_with(found[-1])
    return found
