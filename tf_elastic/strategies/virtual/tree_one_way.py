"""A tree whose points go one way, or are answered: Algorithm 6."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core import one_way
from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.core.rules import Context
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.exchange_spec import in_float64
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.pieces import Parents
from tf_elastic.strategies.virtual.tree_exchange import TreeExchange
from tf_elastic.timeline.virtual.nodes import Nodes


class OneWayTree(TreeExchange):
    r"""Algorithm 6, and its answered form, move by move.

    .. math:: x \leftarrow x + \alpha (y - x)

    of whatever point y arrives, with :math:`\alpha = \beta / (d + 1)` of a node
    with d children, and of a leaf whose parent has d; or the optimizer's
    `moving_rate`. A child that goes to another parent counts there, and an
    inner node that is dead nowhere.

    Arguments and errors: see `TreeExchange`. The rule works both ways.
    """

    protocol = topology.ONE_WAY

    def __init__(
        self,
        spec: Spec,
        statistics: Sequence[ElasticVariable],
        *args: Any,
        nodes: Nodes,
        **kwargs: Any,
    ) -> None:
        super().__init__(spec, statistics, *args, nodes=nodes, **kwargs)
        self._rates = _TreeRates(self._spec, nodes, self._parents)

    def node_follows_parent(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        self._move_node(moment, self._of_others.from_parent)

    def node_follows_child(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        self._move_node(moment, self._of_others.from_child)

    def root_follows(self, moment: Moment) -> None:
        """See `TreeExchange`."""
        packed = self._rates.packed(moment)
        parents = self._compiled(
            self._of_root.from_child,
            self.mail.row(moment.row),
            self._center.read(),
            packed,
        )
        self._move_center(parents, packed, moment)

    def _rates_to_follow(self, moment: Moment) -> Packed:
        return self._rates.packed(moment)

    def _move_node(
        self, moment: Moment, function: Callable[..., Parents]
    ) -> None:
        number = self._number(moment)
        moved = self._compiled(
            function,
            self.mail.row(moment.row),
            self._inner.read(number),
            self._rates.packed(moment),
        )
        self._inner.write(number, moved)


class _TreeRates:
    """The rates of each node.

    Args:
        spec: of the exchange.
        nodes: of the tree.
        parents: of each node, as of now.
    """

    def __init__(
        self,
        spec: ExchangeSpec,
        nodes: Nodes,
        parents: tf.Tensor | tf.Variable,
    ) -> None:
        self._spec = spec
        self._num_workers = nodes.num_workers
        self._parents = parents
        rates_of = node_rates(spec)  # Refuses one that is none.
        most = max(map(len, nodes.children))
        if isinstance(parents, tf.Variable):
            most = len(nodes)
        by_children = [
            rates_of(max(children, 1))["moving_rate"]
            for children in range(most + 1)
        ]
        self._alphas = tf.constant(by_children, tf.float64)
        self._children = [len(children) for children in nodes.children]

    def _alpha(self, node: tf.Tensor) -> tf.Tensor:
        """Of a node, or of a leaf that of its parent."""
        of = tf.where(
            node < self._num_workers, tf.gather(self._parents, node), node
        )
        if isinstance(self._parents, tf.Variable):
            is_child = tf.equal(self._parents.read_value(), of)
            children = tf.math.count_nonzero(is_child)
        else:
            children = tf.gather(tf.constant(self._children, tf.int64), of)
        return tf.gather(self._alphas, children)

    def packed(self, moment: Moment) -> Packed:
        """What the rules make of a node's rates, in float64.

        Args:
            moment: of the move; its worker is the node.

        Returns:
            The rates by name of parameters, and of statistics.
        """
        spec = self._spec
        alpha = self._alpha(moment.worker)
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


def node_rates(
    spec: ExchangeSpec,
) -> Callable[[int], Mapping[str, float | None]]:
    """By what a node moves, by the number of its children."""

    def rates_of(children: int) -> Mapping[str, float | None]:
        alpha = spec.rates(children + 1, 0, [])["moving_rate"]
        return one_way.rates(float(alpha or 0.0))

    return rates_of
