"""The two exchanges of a process whose devices are workers in a cluster.

Inside, the devices exchange with a center of their own, the local center, as
those of one process do. Outside, the local center is the cluster's worker: its
points leave, and what comes back moves it. The devices learn of that when they
exchange with it the next time. So the process is a node of a tree (Zhang 2016,
chapter 6) with its devices as leaves.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.center_elastic import ElasticCenterExchange
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_exchanges import CenterExchanges
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.rule_exchange import RuleExchange
from tf_elastic.strategies.stores import DeviceStore

# Outer exchanges are so many inner ones apart, unless it is said.
PERIODS_BETWEEN = 10


class _Level:
    """A variable as one level of the tree has it: with that level's store."""

    def __init__(self, variable: ElasticVariable, store: DeviceStore) -> None:
        self.name = variable.name
        self.shape, self.dtype = variable.shape, variable.dtype
        self.store = store


class _LocalCenter(ElasticCenterExchange):
    """The local center's exchange with the cluster's, as a worker's.

    Args:
        spec: of the local centers.
        begin_anew: sets the workers of device i to the local center.
        **where: see `CenterExchange`.
    """

    def __init__(
        self,
        spec: ExchangeSpec,
        begin_anew: Callable[[int], None],
        **where: Any,
    ) -> None:
        self._begin_workers_anew = begin_anew
        super().__init__(spec, **where)

    def _begin_anew(self, i: int) -> None:
        self._begin_workers_anew(i)


class DeviceTreeExchange:
    """Both exchanges; to its session with the center it is the outer one.

    Args:
        spec: what is exchanged, by which rule and numbers.
        order: of the devices, one of `core.orders.ORDERS`.
        outer_period: local steps between two outer exchanges; None for
            `PERIODS_BETWEEN` inner periods.
        met_at: an int64 variable: the clock at the last inner exchange.
        statistics, devices, jit_compile, protocol, num_shards: see
            `CenterExchange`.

    Raises:
        ValueError: the rule does not work both ways, or the outer period is
            not a multiple of the inner one.
    """

    closing = under_way = None  # See `CenterExchange`.

    def __init__(
        self,
        spec: Spec,
        order: str,
        outer_period: int | None,
        met_at: tf.Variable,
        *,
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        jit_compile: bool | str,
        **where: Any,
    ) -> None:
        rule = _rule_inside(spec)
        self.outer_period = _checked_period(
            outer_period, spec.communication_period
        )
        self.parameters = list(spec.parameters)
        self.statistics = list(statistics)
        self.met_at = met_at
        self._devices = list(devices)
        self.inside = RuleExchange(
            spec._replace(
                rule=rule,
                parameters=[
                    p._replace(variable=_inside(p.variable), parent={})
                    for p in spec.parameters
                ],
                rates=_elastic_rates_of(spec),
                kept={},
            ),
            order,
            False,
            [_inside(v) for v in statistics],
            devices,
            jit_compile,
            has_parent=True,
        )
        self.outside = _LocalCenter(
            spec._replace(
                parameters=[
                    ExchangedVariable(_outside(p.variable))
                    for p in spec.parameters
                ]
            ),
            self._begin_anew,
            statistics=[_outside(v) for v in statistics],
            devices=devices,
            jit_compile=jit_compile,
            **where,
        )

    def __getattr__(self, name: str) -> Any:
        """What only the outer exchange has."""
        if name == "outside":  # It is being made.
            raise AttributeError(name)
        return getattr(self.outside, name)

    @property
    def moments(self) -> tuple[str, ...]:
        """When one of the two happens: "before" or "after" a local step."""
        both = (*self.inside.moments, *self.outside.moments)
        return tuple(m for m in ("before", "after") if m in both)

    @property
    def whole(self) -> "DeviceTreeExchange":
        """This one: see `training`."""
        return self

    def training(self, indices: Collection[int]) -> "DeviceTreeExchange":
        """The same: all is exchanged, whatever a step trains."""
        del indices
        return self

    def results(self) -> list[tf.Tensor]:
        """Small tensors that are there only when all updates are done."""
        return [*self.inside.results(), *self.outside.results()]

    # In a graph or not.

    def is_new(self, clock: tf.Tensor) -> tf.Tensor:
        """Whether the devices have not exchanged at this clock yet."""
        return tf.not_equal(tf.cast(clock, tf.int64), self.met_at)

    def run_inside(self, clock: tf.Tensor, count: tf.Tensor) -> None:
        """The devices exchange with the local center; see `RuleExchange`."""
        self.inside.run(clock, count)
        self.met_at.assign(tf.cast(clock, tf.int64))

    def is_due_outside(self, clock: tf.Tensor) -> tf.Tensor:
        """Whether the local center exchanges when the devices may."""
        return tf.equal(tf.cast(clock, tf.int64) % self.outer_period, 0)

    def _begin_anew(self, i: int) -> None:
        """The worker of device i begins where the local center is."""
        for variable in [
            *(p.variable for p in self.parameters),
            *self.statistics,
        ]:
            store = variable.store.inside
            store.assign(i, store.center_at(i).read_value())
        for parameter in self.parameters:
            if parameter.velocity is not None:
                store = parameter.velocity.store
                store.assign(i, tf.zeros_like(store.read(i)))


class DeviceTreeExchanges(CenterExchanges):
    """Makes these exchanges.

    Args:
        order_of: gives the devices' order, of an optimizer's method.
        outer_period: see `DeviceTreeExchange`.
        new_clock: makes the variable `met_at`.
        **where: of `CenterExchanges`.
    """

    def __init__(
        self,
        order_of: Callable[[str], str],
        outer_period: int | None,
        new_clock: Callable[[], tf.Variable],
        **where: Any,
    ) -> None:
        super().__init__(**where)
        self._order_of = order_of
        self._outer_period = outer_period
        self._new_clock = new_clock

    def made(self, spec: Spec, **where: Any) -> CenterExchange:
        """See `CenterExchanges`."""
        return DeviceTreeExchange(
            spec,
            self._order_of(spec.method),
            self._outer_period,
            self._new_clock(),
            **where,
        )


def _inside(variable: ElasticVariable) -> _Level:
    return _Level(variable, variable.store.inside)


def _outside(variable: ElasticVariable) -> _Level:
    return _Level(variable, variable.store.outside)


def _rule_inside(spec: Spec) -> rules.Rule:
    """What devices and local center do; an average over time is the center's.

    Raises:
        ValueError: it does not work both ways.
    """
    rule = spec.rule
    if isinstance(rule, rules.TimeAverage):
        rule = rule.of
    if not (rule.works_both_ways and rule.answers_difference):
        raise ValueError(
            '`inside="elastic"` needs a rule that works both ways, since the '
            "local center is a parent to the devices and a child of the "
            "cluster's center: elastic averaging (EASGD, EAMSGD, Elastic). "
            f"Received: inside='elastic' with {spec.method}. Leave `inside` "
            "out: then the devices are mirrored, and any method trains."
        )
    return rule


def _elastic_rates_of(spec: ExchangeSpec) -> Callable[..., rules.Rates]:
    """Alpha and beta alone, without those of an average over time."""

    def rates(*moment: Any) -> rules.Rates:
        of_all = spec.rates(*moment)
        return {name: of_all[name] for name in ("moving_rate", "beta")}

    return rates


def _checked_period(outer: int | None, inner: int | None) -> int:
    """The outer period; there is none to check without an inner one."""
    if inner is None:
        return 1
    if outer is None:
        return PERIODS_BETWEEN * inner
    if outer % inner:
        raise ValueError(
            "`outer_period` must be a multiple of the optimizer's "
            "communication_period, since the local center moves only when the "
            f"devices exchange. Received: outer_period={outer}, "
            f"communication_period={inner}. Take {inner * -(-outer // inner)}."
        )
    return outer
