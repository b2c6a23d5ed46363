"""Points that go along the edges of a tree, of which all leaves are in a bank.

Workers are live or in their rows, inner nodes in a bank of their own, and the
root is the center. What a node sends is in a row of `mail`, for all whom it is
for; there are as many rows as have been needed at once so far.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core import one_way
from tf_elastic.core import rules
from tf_elastic.core.rules import Context
from tf_elastic.core.rules.base import CENTER
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.exchange_spec import in_float64
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.virtual.bank_exchange import BankExchange
from tf_elastic.strategies.virtual.mail import Mail
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.pieces import Parents
from tf_elastic.strategies.virtual.pieces import Pieces
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.set_anew import AllAnew
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.nodes import Nodes


class TreeExchange(BankExchange):
    r"""Algorithm 6, and its answered form, move by move.

    .. math:: x \leftarrow x + \alpha (y - x)

    of whatever point y arrives, with :math:`\alpha = \beta / (d + 1)` of a node
    with d children, and of a leaf whose parent has d; or the optimizer's
    `moving_rate`.

    Args:
        spec: what is exchanged; the rule works both ways.
        statistics: that are taken along.
        *args: of `BankExchange`.
        nodes: of the tree.
        **kwargs: of `BankExchange`.

    Raises:
        ValueError: the rule does not work both ways, or its rates change with
            what the workers do.
    """

    def __init__(
        self,
        spec: Spec,
        statistics: Sequence[ElasticVariable],
        *args: Any,
        nodes: Nodes,
        **kwargs: Any,
    ) -> None:
        one_way.check_rule(spec.rule)
        kwargs["written"] = _all_are_points
        super().__init__(spec, statistics, *args, num_mails=1, **kwargs)
        self._num_workers = nodes.num_workers
        self._root = nodes.root
        self._parent = nodes.parent
        self._rates = _TreeRates(spec, nodes)
        dtypes = [variable.dtype for variable in self._variables]
        shapes = [variable.shape for variable in self._variables]
        # What is averaged over time is the root alone.
        inside = getattr(spec.rule, "of", spec.rule)
        self._of_root = Pieces(spec.rule, self.parameters, dtypes, 1)
        self._of_others = Pieces(inside, self.parameters, dtypes, 1)
        self._inner = Mail(
            shapes,
            dtypes,
            nodes.num_inner,
            self._device,
            self._center.all_points,
        )
        self._inner_anew = [
            AllAnew(variable) for variable in self._inner.variables
        ]
        for variable, anew in zip(
            self._variables, self._inner_anew, strict=True
        ):
            variable.begins_anew_with(anew)

    @property
    def variables(self) -> list[tf.Variable]:
        """See `BankExchange`; the inner nodes too."""
        return [*super().variables, *self._inner.variables]

    @property
    def by_variable(self) -> dict[int, list[tf.Variable]]:
        """See `BankExchange`."""
        return {
            id(variable): [self.mail.variables[k], self._inner.variables[k]]
            for k, variable in enumerate(self._variables)
        }

    def inner_values(self) -> list[tf.Tensor]:
        """Of each variable all inner nodes' values, shape (q, ...)."""
        return [variable.read_value() for variable in self._inner.variables]

    # The moves.

    def send(self, moment: Moment) -> None:
        """A worker's point, into a row."""
        values = self._values(Row(moment.worker))
        points = self._compiled(self._pieces.messages, values)
        self.mail.put_row_of_any(moment.row, points)

    def node_sends(self, moment: Moment) -> None:
        """An inner node's point, likewise."""
        points = self._inner.row(self._number(moment))
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
            self._rates.packed(moment),
        )
        self._go(row, points)

    def node_follows_parent(self, moment: Moment) -> None:
        """An inner node moves by its parent's point."""
        self._move_node(moment, self._of_others.from_parent)

    def node_follows_child(self, moment: Moment) -> None:
        """An inner node moves by a child's point."""
        self._move_node(moment, self._of_others.from_child)

    def root_follows(self, moment: Moment) -> None:
        """The root moves by a child's point: its next version."""
        packed = self._rates.packed(moment)
        parents = self._compiled(
            self._of_root.from_child,
            self.mail.row(moment.row),
            self._center.read(),
            packed,
        )
        self._move_center(parents, packed, moment)

    def join(self, moment: Moment) -> None:
        """A new life of a worker, which begins where its parent is."""
        worker = moment.worker
        self._bank.forget(worker)
        parent = tf.gather(tf.constant(self._parent, tf.int64), worker)
        points = tf.cond(
            tf.equal(parent, self._root),
            self._center.all_points,
            lambda: self._inner.row(parent - self._num_workers),
        )
        row = Row(worker)
        for variable, point in zip(self._variables, points, strict=True):
            row.set(variable.store, point)
        self._forget_velocity(row)

    def _move_node(
        self, moment: Moment, function: Callable[..., Parents]
    ) -> None:
        number = self._number(moment)
        nodes = [{CENTER: value} for value in self._inner.row(number)]
        moved = self._compiled(
            function,
            self.mail.row(moment.row),
            nodes,
            self._rates.packed(moment),
        )
        self._inner.put_row(number, [node[CENTER] for node in moved])

    def _number(self, moment: Moment) -> tf.Tensor:
        """Of an inner node, from 0."""
        return moment.worker - self._num_workers


class _TreeRates:
    """The rates of each node.

    Args:
        spec: of the exchange.
        nodes: of the tree.
    """

    def __init__(self, spec: Spec, nodes: Nodes) -> None:
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
        self._spec = spec
        alphas = []
        for node in range(len(nodes)):
            of = node if nodes.children[node] else nodes.parent[node]
            p = len(nodes.children[of]) + 1
            alphas.append(spec.rates(p, 0, [])["moving_rate"])
            one_way.rates(alphas[-1])  # Refuses one that is none.
        self._alphas = alphas

    def packed(self, moment: Moment) -> Packed:
        """What the rules make of a node's rates, in float64.

        Args:
            moment: of the move; its worker is the node.

        Returns:
            The rates by name of parameters, and of statistics.
        """
        spec = self._spec
        alpha = tf.gather(tf.constant(self._alphas, tf.float64), moment.worker)
        rates = {
            **spec.rates(1, 0, []),
            **one_way.rates_by(alpha),
        }
        now = Context(
            tf.cast(moment.version, tf.float64),
            tf.cast(tf.maximum(moment.staleness, 1), tf.float64),
            1.0,
            {
                name: tf.convert_to_tensor(variable.value)
                for name, variable in spec.kept.items()
            },
        )
        return [
            {
                name: in_float64(rate)
                for name, rate in rule.rates_at(rates, now).items()
            }
            for rule in (spec.rule, rules.Follow())
        ]


def _all_are_points() -> tf.Tensor:
    """See `under_way_of`: all rows are points, whoever has sent them."""
    return tf.constant([moves.MAKE], tf.int64)


# What a move does to what is learned.
DOES: dict[int, Callable[[Any, Moment], None]] = {
    moves.SEND: lambda exchange, moment: exchange.send(moment),
    moves.NODE_UP: lambda exchange, moment: exchange.node_sends(moment),
    moves.NODE_DOWN: lambda exchange, moment: exchange.node_sends(moment),
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
}
