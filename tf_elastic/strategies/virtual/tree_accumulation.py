"""A tree of servers that send up what updates came to: HALoS."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.core import tree_rules
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import Rule
from tf_elastic.core.rules.base import CENTER
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.exchange_spec import in_float64
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.tree_exchange import TreeExchange
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.nodes import Nodes


class AccumulatingTree(TreeExchange):
    """HALoS, move by move: see `rules.GlobalServer`, `rules.RegionalServer`.

    What goes up is in rows of its own, since it is no point.

    Arguments and errors: see `TreeExchange`.
    """

    protocol = topology.ACCUMULATED
    written_by = moves.ANSWER

    def __init__(
        self,
        spec: Spec,
        statistics: Sequence[ElasticVariable],
        *args: Any,
        nodes: Nodes,
        **kwargs: Any,
    ) -> None:
        super().__init__(spec, statistics, *args, nodes=nodes, **kwargs)
        self._increments = self._further_rows(1, grows=True)
        # Of each node with children.
        self._num_children = [
            len(children) for children in nodes.children[nodes.num_workers :]
        ]
        each = [self._spec.rates(d, 0, []) for d in self._num_children]
        for rates, d in zip(each, self._num_children, strict=True):
            self._spec.rule.check({**rates, "num_workers": d})
        self._rates_of = {
            name: [float(rates[name]) for rates in each] for name in each[0]
        }

    def send(self, moment: Moment) -> None:
        """See `TreeExchange`: what it has done since it was answered."""
        values = self._values(Row(moment.worker))
        messages = self._compiled(self._pieces.messages, values)
        self._increments.put_row_of_any(moment.row, messages)

    def node_sends_up(self, moment: Moment) -> None:
        """See `TreeExchange`: its way since it last merged."""
        slots = self._inner.read(self._number(moment))
        parameters = len(self.parameters)
        self._increments.put_row_of_any(
            moment.row,
            [
                *map(tree_rules.accumulated, slots[:parameters]),
                *(own[CENTER] for own in slots[parameters:]),
            ],
        )

    def node_follows_child(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        number = self._number(moment)
        packed = self._packed(moment, self._spec.rule.inner)
        moved = self._compiled(
            self._of_others.from_child,
            self._increments.row(moment.row),
            self._inner.read(number),
            packed,
        )
        self._inner.write(number, moved, packed)

    def root_follows(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        packed = self._packed(moment, self._spec.rule)
        moved = self._compiled(
            self._of_root.from_child,
            self._increments.row(moment.row),
            self._center.read(),
            packed,
        )
        self._move_center(moved, packed, moment)

    def node_follows_parent(self, moment: Moment) -> None:
        """See `TreeExchange`: it merges the answer. Its statistics stay."""
        number = self._number(moment)
        merged = self._compiled(
            self._of_others.merged,
            self.mail.row(moment.row),
            self._inner.read(number),
            self._packed(moment, self._spec.rule.inner),
        )
        self._inner.write(number, merged)

    def _rates_to_follow(self, moment: Moment) -> Packed:
        del moment
        return [{}, {}]  # It goes there.

    def _packed(self, moment: Moment, rule: Rule) -> Packed:
        """The rates of a node, as its rule has them."""
        number = self._number(moment)
        rates = {
            name: tf.gather(tf.constant(values, tf.float64), number)
            for name, values in self._rates_of.items()
        }
        rates["num_workers"] = tf.gather(
            tf.constant(self._num_children, tf.float64), number
        )
        is_root = rule is self._spec.rule
        kept = {
            name: tf.convert_to_tensor(variable.value)
            if is_root
            else tf.gather(variable, number)
            for name, variable in (
                self._spec.kept if is_root else self._inner.numbers
            ).items()
        }
        now = Context(
            tf.cast(moment.version, tf.float64),
            tf.cast(tf.maximum(moment.staleness, 1), tf.float64),
            1.0,
            kept,
        )
        return [
            {
                name: in_float64(rate)
                for name, rate in each.rates_at(rates, now).items()
            }
            for each in (rule, rules.Follow())
        ]
