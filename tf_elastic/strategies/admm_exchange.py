"""ADMM between the workers of one process and their center."""

from collections.abc import Sequence

import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.core.arrays import widened
from tf_elastic.core.rules import Context
from tf_elastic.optimizers.exchange_spec import AdmmSpec
from tf_elastic.optimizers.exchange_spec import AdmmVariable
from tf_elastic.strategies.device_exchange import DeviceExchange
from tf_elastic.strategies.device_exchange import Tensors
from tf_elastic.strategies.elastic_variable import ElasticVariable


class AdmmExchange(DeviceExchange):
    """Workers are served one after another: eqs. 3.52 to 3.54.

    At the start of a period a worker reads the center and takes its dual
    step, at each step a proximal one, and at the end it brings the center its
    new part. With a period of 1 that is one visit.

    Args:
        spec: what each worker keeps, and the numbers of a step.
        statistics, devices, jit_compile: see `DeviceExchange`.
    """

    moments = ("after",)  # the gradients: the steps are taken here

    def __init__(
        self,
        spec: AdmmSpec,
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        jit_compile: bool | str,
    ) -> None:
        super().__init__(spec.parameters, statistics, devices, jit_compile)
        self._spec = spec

    def run(self, clock: tf.Tensor, count: tf.Tensor) -> None:
        """Takes one step of every worker.

        Args:
            clock: local steps of each worker, this one too; integer scalar.
            count: steps before this one.
        """
        del count
        period = self._spec.communication_period
        begins = tf.equal((clock - 1) % period, 0)
        ends = tf.equal(clock % period, 0)
        (learning_rate,) = tf.unstack(self._spec.numbers(clock), num=1)
        centers = [v.store.read_center(0) for v in self._variables]
        for i in range(self.num_workers):
            centers = self._on(
                i, self._visit, begins, ends, learning_rate, centers
            )
        self._set_centers(centers)

    def centers_after(self, clock: tf.Tensor, count: tf.Tensor) -> Tensors:
        """What the centers would be with all workers' parts as they are."""
        del clock, count
        parts = [self._on(i, self._parts) for i in range(self.num_workers)]
        return [
            self._moved(
                k,
                variable.store.read_center(0),
                orders.summed([widened(of_worker[k]) for of_worker in parts]),
            )
            for k, variable in enumerate(self._variables)
        ]

    def _parts(self, i: int) -> Tensors:
        """What worker i would bring the center now."""
        return [parameter.message(i) for parameter in self.parameters] + [
            _follow(variable).delta(
                variable.store.read(i),
                {"center": variable.store.read_center(i)},
            )
            for variable in self._statistics
        ]

    def _visit(
        self,
        i: int,
        begins: tf.Tensor,
        ends: tf.Tensor,
        learning_rate: tf.Tensor,
        centers: Sequence[tf.Tensor],
    ) -> Tensors:
        changes = [
            admm_step(
                parameter,
                i,
                begins,
                ends,
                learning_rate,
                self._spec.elasticity,
                center,
            )
            for parameter, center in zip(self.parameters, centers, strict=False)
        ]
        for variable, center in zip(
            self._statistics, centers[len(changes) :], strict=True
        ):
            delta = _follow(variable).delta(
                variable.store.read(i), {"center": center}
            )
            changes.append(tf.where(ends, delta, 0 * delta))
        return [
            self._moved(k, center, change)
            for k, (center, change) in enumerate(
                zip(centers, changes, strict=True)
            )
        ]

    def _moved(self, k: int, center: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
        """A center after what workers have brought."""
        is_parameter = k < len(self.parameters)
        rule = rules.for_dtype(
            self._spec.rule if is_parameter else rules.Follow(),
            self._variables[k].dtype.name,
        )
        rates = rule.rates_at({"num_workers": self.num_workers}, Context())
        return rule.apply({"center": center}, change, rates)["center"]


def _follow(variable: ElasticVariable) -> rules.Rule:
    return rules.for_dtype(rules.Follow(), variable.dtype.name)


def admm_step(
    parameter: AdmmVariable,
    i: int,
    begins: tf.Tensor,
    ends: tf.Tensor,
    learning_rate: tf.Tensor,
    elasticity: float,
    center: tf.Tensor,
) -> tf.Tensor:
    """One worker's step on one variable.

    Args:
        parameter: an `AdmmVariable`.
        i: the worker's copies.
        begins: whether a period begins: the center is read.
        ends: whether one ends.
        learning_rate: float64 scalar.
        elasticity: rho.
        center: as it is now; used if a period begins.

    Returns:
        What the worker's part of the center has changed by since it last
        brought it, if a period ends; else zero.
    """
    x, gradient, multiplier, anchor, pushed = (
        variable.store.read(i)
        for variable in (
            parameter.variable,
            parameter.gradient,
            parameter.multiplier,
            parameter.anchor,
            parameter.pushed,
        )
    )
    center = tf.cast(center, anchor.dtype)
    read = tf.where(begins, center, anchor)
    dual = tf.where(
        begins, core.admm.dual_step(multiplier, x, read), multiplier
    )
    rate = tf.cast(learning_rate, center.dtype)
    moved = core.admm.proximal_step(
        x, gradient, dual, read, rate, tf.constant(elasticity, center.dtype)
    )
    part = core.admm.contribution(moved, dual)
    change = tf.where(ends, part - pushed, tf.zeros_like(part))
    for variable, value in (
        (parameter.anchor, read),
        (parameter.multiplier, dual),
        (parameter.variable, moved),
        (parameter.pushed, tf.where(ends, part, pushed)),
    ):
        variable.store.assign(i, value)
    return change
