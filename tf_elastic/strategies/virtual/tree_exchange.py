"""Points that go along the edges of a tree, of which all leaves are in a bank.

Workers are live or in their rows, inner nodes in rows of their own, and the
root is the center. What a node sends is in a row of `mail`, for all whom it is
for; there are as many rows as have been needed at once so far.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core import tree_rules
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.core.rules.base import CENTER
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.stores.rows import write_row
from tf_elastic.strategies.virtual.bank_exchange import BankExchange
from tf_elastic.strategies.virtual.inner_nodes import InnerNodes
from tf_elastic.strategies.virtual.mail import Mail
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.pieces import Pieces
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.set_anew import AllAnew
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.nodes import Nodes


class TreeExchange(BankExchange):
    """What is the same in all trees: where nodes are, and what they send.

    A subclass says by which rates they move, and how.

    Args:
        spec: what is exchanged.
        statistics: that are taken along.
        *args: of `BankExchange`.
        nodes: of the tree.
        moves_nodes: whether inner nodes may die.
        **kwargs: of `BankExchange`.

    Raises:
        ValueError: there is no such tree by the rule, or its rates change with
            what the workers do.
    """

    protocol = ""  # of `core.topology`
    # By which move, of `timeline.virtual.moves`, a row is written last.
    written_by = moves.MAKE

    def __init__(
        self,
        spec: Spec,
        statistics: Sequence[ElasticVariable],
        *args: Any,
        nodes: Nodes,
        moves_nodes: bool = False,
        **kwargs: Any,
    ) -> None:
        tree_rules.check_rule(spec.rule, self.protocol)
        kwargs["written"] = lambda: tf.constant([self.written_by], tf.int64)
        super().__init__(spec, statistics, *args, num_mails=1, **kwargs)
        self._num_workers = nodes.num_workers
        self._root = nodes.root
        # Of each node, -1 of the root and of who is dead.
        self._parents: tf.Tensor | tf.Variable
        self._parents = tf.constant(nodes.parent, tf.int64)
        if moves_nodes:
            self._parents = tf.Variable(self._parents, trainable=False)
        self._further: list[Mail] = []
        self._further_anew: list[AllAnew] = []  # Variables hold them weakly.
        self._spec = _with_known_rates(spec)
        dtypes = [variable.dtype for variable in self._variables]
        self._of_root = Pieces(spec.rule, self.parameters, dtypes, 1)
        self._of_others = Pieces(spec.rule.inner, self.parameters, dtypes, 1)
        self._inner = InnerNodes(
            spec.rule.inner,
            self._variables,
            len(self.parameters),
            nodes.num_inner,
            self._device,
            self._center.all_points,
        )

    @property
    def variables(self) -> list[tf.Variable]:
        """See `BankExchange`; inner nodes and further rows too."""
        found = [*super().variables, *self._inner.variables]
        for rows in self._further:
            found += rows.variables
        if isinstance(self._parents, tf.Variable):
            found.append(self._parents)
        return found

    @property
    def by_variable(self) -> dict[int, list[tf.Variable]]:
        """See `BankExchange`."""
        return {
            id(variable): [
                self.mail.variables[k],
                *self._inner.of_variable(k),
                *(rows.variables[k] for rows in self._further),
            ]
            for k, variable in enumerate(self._variables)
        }

    def _further_rows(
        self, count: int, grows: bool = False, is_wide: bool = False
    ) -> Mail:
        """Rows of each variable that are no points, and 0 at the beginning.

        Args:
            count: how many.
            grows: whether there may be more.
            is_wide: whether what sums up in them needs a `wide_dtype`.
        """
        names = [variable.dtype.name for variable in self._variables]
        rows = Mail(
            [variable.shape for variable in self._variables],
            [tf.as_dtype(wide_dtype(n) if is_wide else n) for n in names],
            count,
            self._device,
            grows=grows,
        )
        for variable, each in zip(
            self._variables, map(AllAnew, rows.variables), strict=True
        ):
            self._further_anew.append(each)
            variable.begins_anew_with(each, tf.zeros_like)
        self._further.append(rows)
        return rows

    def inner_values(self) -> list[tf.Tensor]:
        """Of each variable all inner nodes' values, shape (q, ...)."""
        return self._inner.centers()

    def _rates_to_follow(self, moment: Moment) -> Packed:
        """By which a worker follows its parent's point."""
        raise NotImplementedError

    def begin(self, done: Iterable[Move]) -> None:
        """Takes in what happens before the first step, in eager code.

        All are where they begin then; but some may have died.

        Args:
            done: the moves.
        """
        if not isinstance(self._parents, tf.Variable):
            return
        parents = self._parents.numpy()
        for move in done:
            if move.kind == moves.NODE_DIE:
                parents[move.worker] = -1
            elif move.kind in (moves.NODE_JOIN, moves.ATTACH):
                parents[move.worker] = move.count
        self._parents.assign(parents)

    # The moves.

    def send(self, moment: Moment) -> None:
        """A worker's message, into a row."""
        values = self._values(Row(moment.worker))
        messages = self._compiled(self._pieces.messages, values)
        self.mail.put_row_of_any(moment.row, messages)

    def node_sends_up(self, moment: Moment) -> None:
        """An inner node's message, likewise: its point."""
        self.node_sends_down(moment)

    def node_sends_down(self, moment: Moment) -> None:
        """An inner node's point, for its children."""
        points = self._inner.points(self._number(moment))
        self.mail.put_row_of_any(moment.row, points)

    def root_sends(self, moment: Moment) -> None:
        """The root's point, likewise."""
        self.mail.put_row_of_any(moment.row, self._center.all_points())

    def follow(self, moment: Moment) -> None:
        """A worker moves by its parent's point."""
        row = Row(moment.worker)
        points = self._compiled(
            self._of_others.followed,
            self._values(row),
            self._copies(row),
            self.mail.row(moment.row),
            self._rates_to_follow(moment),
        )
        self._go(row, points)

    def node_follows_parent(self, moment: Moment) -> None:
        """An inner node moves by its parent's point."""
        raise NotImplementedError

    def node_follows_child(self, moment: Moment) -> None:
        """An inner node moves by a child's message."""
        raise NotImplementedError

    def root_follows(self, moment: Moment) -> None:
        """The root moves by a child's message: its next version."""
        raise NotImplementedError

    def node_adds(self, moment: Moment) -> None:
        """A child's point adds to what an inner node will move by."""
        raise NotImplementedError

    def root_adds(self, moment: Moment) -> None:
        """Likewise of the root."""
        raise NotImplementedError

    def node_collects(self, moment: Moment) -> None:
        """An inner node moves by the sum."""
        raise NotImplementedError

    def root_collects(self, moment: Moment) -> None:
        """The root moves by the sum: its next version."""
        raise NotImplementedError

    def join(self, moment: Moment) -> None:
        """A new life of a worker, which begins where its parent is."""
        worker = moment.worker
        self._bank.forget(worker)
        points = self._points_of(tf.gather(self._parents, worker))
        row = Row(worker)
        for variable, point in zip(self._variables, points, strict=True):
            row.set(variable.store, point)
        self._count_from(row, points[: len(self.parameters)])
        self._forget_velocity(row)

    def node_joins(self, moment: Moment) -> None:
        """A new life of an inner node, which begins where its parent is."""
        self.attach(moment)
        points = self._points_of(moment.count)
        self._inner.write(
            self._number(moment), [{CENTER: point} for point in points]
        )

    def node_dies(self, moment: Moment) -> None:
        """An inner node is nobody's child any more."""
        self._set_parent(moment.worker, tf.constant(-1, tf.int64))

    def attach(self, moment: Moment) -> None:
        """A node is the child of another parent from now on."""
        self._set_parent(moment.worker, moment.count)

    def _set_parent(self, node: tf.Tensor, parent: tf.Tensor) -> None:
        if isinstance(self._parents, tf.Variable):
            write_row(self._parents, node, parent)

    def _points_of(self, node: tf.Tensor) -> list[tf.Tensor]:
        """Where a node that is no worker is."""
        points: list[tf.Tensor] = tf.cond(
            tf.equal(node, self._root),
            self._center.all_points,
            lambda: self._inner.points(node - self._num_workers),
        )
        return points

    def _number(self, moment: Moment) -> tf.Tensor:
        """Of an inner node, from 0."""
        return moment.worker - self._num_workers


def _with_known_rates(spec: Spec) -> ExchangeSpec:
    """The same.

    Raises:
        ValueError: its rates depend on what workers do.
    """
    if (
        not isinstance(spec, ExchangeSpec)
        or spec.numbers(tf.constant(0, tf.int64)).shape[0]
    ):
        raise ValueError(
            "In a tree all nodes move by rates that are known before. "
            f"Received: the method {spec.method!r}, whose rates follow "
            "what its workers do. Leave `average_from` at a number, or "
            "choose another method."
        )
    return spec


# What a move does to what is learned.
DOES: dict[int, Callable[[Any, Moment], None]] = {
    moves.SEND: lambda exchange, moment: exchange.send(moment),
    moves.NODE_UP: lambda exchange, moment: exchange.node_sends_up(moment),
    moves.NODE_DOWN: lambda exchange, moment: exchange.node_sends_down(moment),
    moves.ROOT_DOWN: lambda exchange, moment: exchange.root_sends(moment),
    moves.FOLLOW: lambda exchange, moment: exchange.follow(moment),
    moves.NODE_FROM_PARENT: lambda exchange, moment: (
        exchange.node_follows_parent(moment)
    ),
    moves.NODE_FROM_CHILD: lambda exchange, moment: exchange.node_follows_child(
        moment
    ),
    moves.ROOT_FROM_CHILD: lambda exchange, moment: exchange.root_follows(
        moment
    ),
    moves.NODE_ADD: lambda exchange, moment: exchange.node_adds(moment),
    moves.ROOT_ADD: lambda exchange, moment: exchange.root_adds(moment),
    moves.NODE_COLLECT: lambda exchange, moment: exchange.node_collects(moment),
    moves.ROOT_COLLECT: lambda exchange, moment: exchange.root_collects(moment),
    moves.NODE_DIE: lambda exchange, moment: exchange.node_dies(moment),
    moves.NODE_JOIN: lambda exchange, moment: exchange.node_joins(moment),
    moves.ATTACH: lambda exchange, moment: exchange.attach(moment),
}
