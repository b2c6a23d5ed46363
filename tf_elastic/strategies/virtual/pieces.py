"""What an exchange of a bank computes, of tensors alone.

One function over all variables for each piece, so that XLA makes one kernel of
it.
"""

from collections.abc import Sequence

import tensorflow as tf

from tf_elastic.core import one_way
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.core import tree_rules
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.core.arrays import widened
from tf_elastic.core.rules import Rates
from tf_elastic.core.rules import Rule
from tf_elastic.core.rules.base import CENTER
from tf_elastic.optimizers.exchange_spec import AdmmVariable
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.strategies.virtual.places import Tensors
from tf_elastic.strategies.virtual.places import WorkerValues

# Of each variable what the center keeps.
Parents = list[dict[str, tf.Tensor]]
# Rates by role: of parameters, of statistics.
Packed = list[dict[str, tf.Tensor]]


class Pieces:
    """The pieces for a fixed set of variables.

    Args:
        rule: of the parameters.
        parameters: what is exchanged.
        dtypes: of all variables, the parameters first, then statistics.
        num_workers: p, where the rates do not tell of another.
    """

    def __init__(
        self,
        rule: Rule,
        parameters: Sequence[ExchangedVariable | AdmmVariable],
        dtypes: Sequence[tf.DType],
        num_workers: int,
    ) -> None:
        self._rule = rule
        self._parameters = list(parameters)
        self._dtypes = list(dtypes)
        self._num_workers = num_workers

    def rule_of(self, k: int) -> Rule:
        """The rule of a variable, by its place."""
        is_parameter = k < len(self._parameters)
        rule = self._rule if is_parameter else rules.Follow()
        return rules.for_dtype(rule, self._dtypes[k].name)

    def _rates(self, k: int, packed: Packed) -> Rates:
        of_role = packed[0 if k < len(self._parameters) else 1]
        dtype = wide_dtype(self._dtypes[k].name)
        cast = {name: tf.cast(rate, dtype) for name, rate in of_role.items()}
        return {"num_workers": self._num_workers, **cast}

    def distance(self, points: Tensors, centers: Tensors) -> tf.Tensor:
        """|x - center| of a worker, over all parameters, float64 scalar."""
        squares = [
            tf.reduce_sum(
                tf.square(tf.cast(widened(point) - center, tf.float64))
            )
            for point, center in zip(points, centers, strict=True)
        ]
        return tf.sqrt(tf.add_n(squares))

    def messages(self, values: WorkerValues) -> Tensors:
        """What a worker sends, of what it is made of."""
        sends = self._rule.sends
        return [
            parameter.message_of(sends, stored, slot)
            for parameter, stored, slot in zip(
                self._parameters, values.stored, values.slots, strict=True
            )
        ] + [tf.identity(value) for value in values.statistics]

    def deltas(self, messages: Tensors, parents: Parents) -> Tensors:
        """What of messages moves the center."""
        return [
            self.rule_of(k).delta(message, parents[k])
            for k, message in enumerate(messages)
        ]

    def summands(self, deltas: Tensors) -> Tensors:
        """Deltas as they are added to others'."""
        return [
            self.rule_of(k).summand(delta) for k, delta in enumerate(deltas)
        ]

    def applied(
        self,
        deltas: Tensors,
        parents: Parents,
        sent: Tensors | None,
        packed: Packed,
    ) -> Parents:
        """The center, moved by deltas."""
        return [
            dict(
                self.rule_of(k).apply(
                    parents[k],
                    delta,
                    self._rates(k, packed),
                    sent[k] if sent and k < len(sent) else None,
                )
            )
            for k, delta in enumerate(deltas)
        ]

    def arrived(
        self,
        messages: Tensors,
        parents: Parents,
        sent: Tensors | None,
        packed: Packed,
    ) -> tuple[Parents, Tensors]:
        """The center, moved by messages, and its answers."""
        deltas = self.deltas(messages, parents)
        moved = self.applied(deltas, parents, sent, packed)
        if self._rule.answers_difference:
            return moved, deltas
        return moved, self.begun(moved, packed)

    def added(
        self, messages: Tensors, parents: Parents, total: Tensors
    ) -> tuple[Tensors, Tensors]:
        """A round's sum with one message more, and its deltas."""
        deltas = self.deltas(messages, parents)
        summed = [
            orders.summed(pair)
            for pair in zip(total, self.summands(deltas), strict=True)
        ]
        return summed, deltas

    def weighed(
        self,
        messages: Tensors,
        parents: Parents,
        total: Tensors,
        weight: tf.Tensor,
    ) -> Tensors:
        """A meeting's sum with one child's messages more, by its weight."""
        return [
            orders.summed(
                (
                    total[k],
                    tree_rules.weighed(
                        self.rule_of(k),
                        message,
                        parents[k],
                        tf.cast(weight, wide_dtype(self._dtypes[k].name)),
                    ),
                )
            )
            for k, message in enumerate(messages)
        ]

    def merged(
        self, messages: Tensors, slots: Parents, packed: Packed
    ) -> Parents:
        """A regional server after its parent's answer; statistics stay."""
        if not isinstance(self._rule, rules.RegionalServer):
            raise TypeError(f"{self._rule.name!r} merges nothing.")
        return [
            self._rule.merged(
                slots[k], widened(messages[k]), self._rates(k, packed)
            )
            if k < len(self._parameters)
            else dict(slots[k])
            for k in range(len(slots))
        ]

    def collected(
        self, total: Tensors, parents: Parents, packed: Packed
    ) -> tuple[Parents, Tensors]:
        """The center, moved by a round's sum, and an empty sum."""
        moved = self.applied(total, parents, None, packed)
        return moved, [tf.zeros_like(array) for array in total]

    def begun(self, parents: Parents, packed: Packed) -> Tensors:
        """Where children begin, or go on from."""
        return [
            self.rule_of(k).begin(parents[k], self._rates(k, packed))
            for k in range(len(self._parameters))
        ]

    def settled(
        self, points: Tensors, answers: Tensors, packed: Packed
    ) -> Tensors:
        """Where a worker goes that is answered."""
        if not self._rule.answers_difference:
            return [tf.identity(answer) for answer in answers]
        return [
            self.rule_of(k).settle(point, answer, self._rates(k, packed))
            for k, (point, answer) in enumerate(
                zip(points, answers, strict=True)
            )
        ]

    def turned_over(
        self, values: WorkerValues, answers: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Messages of what was done, and where it goes on from there."""
        points = []
        for k, stored in enumerate(values.stored):
            sent = values.slots[k]
            point = answers[k]
            if sent is not None and self._rule.sends == rules.INCREMENT:
                point = orders.go_on(point, stored[0], sent)
            points.append(point)
        return self.messages(values), points

    def visited(
        self,
        values: WorkerValues,
        copies: Tensors,
        parents: Parents,
        sent: Tensors | None,
        packed: Packed,
    ) -> tuple[Parents, Tensors]:
        """The center and a worker, moved by each other."""
        after, points = [], []
        for k, message in enumerate(self.messages(values)):
            is_parameter = k < len(copies)
            visited = orders.visit(
                self.rule_of(k),
                message,
                copies[k] if is_parameter else message,
                parents[k],
                self._rates(k, packed),
                sent[k] if sent and is_parameter else None,
            )
            after.append(dict(visited.parent))
            if is_parameter:
                points.append(visited.point)
        return after, points

    # Points that go one way, in a tree.

    def followed(
        self,
        values: WorkerValues,
        copies: Tensors,
        messages: Tensors,
        packed: Packed,
    ) -> Tensors:
        """Where a worker goes by its parent's points."""
        points = self.messages(values)
        return [
            orders.come_back(
                self.rule_of(k),
                points[k],
                copy,
                {CENTER: messages[k]},
                self._rates(k, packed),
            )
            for k, copy in enumerate(copies)
        ]

    def from_child(
        self, messages: Tensors, slots: Parents, packed: Packed
    ) -> Parents:
        """A node after a child's points have come."""
        return [
            one_way.from_child(
                self.rule_of(k), message, slots[k], self._rates(k, packed)
            )
            for k, message in enumerate(messages)
        ]

    def from_parent(
        self, messages: Tensors, slots: Parents, packed: Packed
    ) -> Parents:
        """A node after its parent's points have come."""
        return [
            one_way.from_parent(
                self.rule_of(k), message, slots[k], self._rates(k, packed)
            )
            for k, message in enumerate(messages)
        ]
