"""A tree whose nodes meet their children: hierarchical local SGD."""

from collections.abc import Sequence
from typing import Any

from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.core.rules import Context
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.exchange_spec import in_float64
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.tree_exchange import TreeExchange
from tf_elastic.timeline.virtual.nodes import Nodes


class MeetingTree(TreeExchange):
    r"""Hierarchical local SGD, move by move.

    .. math:: c \leftarrow \frac{\sum_i w_i x^i}{\sum_i w_i}

    at a node, of its children's points :math:`x^i`, below each of which there
    are :math:`w_i` workers; then children go on from c, or from what comes of
    the parent's meeting. So each meeting is a mean over workers, whatever the
    sizes of blocks are.

    Arguments and errors: see `TreeExchange`. The rule is `rules.Mean`.
    """

    protocol = topology.SYNCHRONOUS

    def __init__(
        self,
        spec: Spec,
        statistics: Sequence[ElasticVariable],
        *args: Any,
        nodes: Nodes,
        **kwargs: Any,
    ) -> None:
        super().__init__(spec, statistics, *args, nodes=nodes, **kwargs)
        # A row for each inner node, and for the root.
        self._sums = self._further_rows(nodes.num_inner + 1, is_wide=True)

    def node_adds(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        self._add(moment, self._inner.read(self._number(moment)))

    def root_adds(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        self._add(moment, self._center.read())

    def node_collects(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        number = self._number(moment)
        moved, empty = self._compiled(
            self._of_others.collected,
            self._sums.row(number),
            self._inner.read(number),
            self._packed(moment),
        )
        self._inner.write(number, moved)
        self._sums.put_row(number, empty)

    def root_collects(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        number, packed = self._number(moment), self._packed(moment)
        moved, empty = self._compiled(
            self._of_root.collected,
            self._sums.row(number),
            self._center.read(),
            packed,
        )
        self._sums.put_row(number, empty)
        self._move_center(moved, packed, moment)

    def node_follows_parent(self, moment: Moment) -> None:
        """See `TreeExchange`: it goes there. Its statistics stay."""
        number = self._number(moment)
        moved = self._compiled(
            self._of_others.from_parent,
            self.mail.row(moment.row),
            self._inner.read(number),
            self._packed(moment),
        )
        self._inner.write(number, moved)

    def _rates_to_follow(self, moment: Moment) -> Packed:
        return self._packed(moment)

    def _add(self, moment: Moment, slots: Any) -> None:
        number = self._number(moment)
        total = self._compiled(
            self._of_others.weighed,
            self.mail.row(moment.row),
            slots,
            self._sums.row(number),
            in_float64(moment.count),
        )
        self._sums.put_row(number, total)

    def _packed(self, moment: Moment) -> Packed:
        """The rates of a meeting of so many workers."""
        workers = in_float64(moment.count)
        rates = {**self._spec.rates(1, 0, []), "num_workers": workers}
        return [
            {
                name: in_float64(rate)
                for name, rate in rule.rates_at(rates, Context()).items()
            }
            for rule in (self._spec.rule, rules.Follow())
        ]
