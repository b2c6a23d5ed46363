"""A worker's pushes to the center of a cluster, and what it goes on from."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.optimizers.exchange_spec import AdmmSpec
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.admm_exchange import admm_step
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_exchange import Flat
from tf_elastic.strategies.center_exchange import Tensors


class PushCenterExchange(CenterExchange):
    """Messages leave, points to go on from come back.

    Of a center server that is away NaN comes back: there the worker goes on
    from where it is. What was not pushed is kept by `cluster.client`.

    Args:
        spec: what is pushed, and the rates.
        **kwargs: of `CenterExchange`.
    """

    def __init__(self, spec: ExchangeSpec, **kwargs: Any) -> None:
        self._spec = spec
        super().__init__(spec.parameters, **kwargs)
        self._take = [
            self._compile(device, self._take_on(i))
            for i, device in enumerate(self._devices)
        ]

    def may_be_followed_by(self, spec: Spec) -> bool:
        """Whether the center goes on by another optimizer's rule.

        It is the same one, then.
        """
        return bool(spec.rule == self._spec.rule)

    def take_over(self, before: "PushCenterExchange") -> None:
        """Goes on from where the worker has last read."""
        if self._spec.rule.sends != rules.INCREMENT:
            return
        for new, old in zip(self.parameters, before.parameters, strict=True):
            if new.slot is None:
                continue
            values = (old.slot or old.variable).store.values()
            for i, value in enumerate(values):
                new.slot.store.assign(i, value)

    def numbers(self, clock: tf.Tensor) -> tf.Tensor:
        """What the rates depend on, beside p: a float64 vector."""
        return self._spec.numbers(clock)

    def rates(
        self, num_workers: int, clock: int, numbers: Sequence[float]
    ) -> rules.Rates:
        """Of a push by one of p workers."""
        rates = self._spec.rates(
            num_workers, clock, [float(n) for n in numbers]
        )
        return {
            name: None if rate is None else float(rate)
            for name, rate in rates.items()
        }

    def left_over(self) -> Tensors:
        """What is still to be sent at the end of training, in eager code."""
        if self._spec.rule.sends == rules.GRADIENT:
            return []  # It was, by the step that it is of.
        return self.outgoing()

    def _outgoing_values(self) -> Tensors:
        sends = self._spec.rule.sends
        return self._flat([p.message(sends, 0) for p in self.parameters])

    def _obey(self, moving_rate: tf.Tensor, flat: Tensors) -> None:
        del moving_rate
        for take_on_device in self._take:
            take_on_device(flat)

    def _take_on(self, i: int) -> Callable[..., Tensors]:
        def take(flat: Tensors) -> Tensors:
            for parameter, point in zip(
                self.parameters, self._cut(flat), strict=False
            ):
                self._go_on(parameter, i, point)
            return []

        return take

    def _go_on(
        self, parameter: ExchangedVariable, i: int, point: tf.Tensor
    ) -> None:
        x = parameter.variable.store
        away = tf.math.is_nan(point)
        if parameter.slot is not None and (
            self._spec.rule.sends == rules.INCREMENT
        ):
            slot = parameter.slot.store
            here = x.read(i)
            new, left = point, here
            if self.protocol.answers_later:
                left = slot.read(i)
                new = orders.go_on(point, here, left)
            slot.assign(i, tf.where(away, left, point))
            x.assign(i, tf.where(away, here, new))
        else:
            x.assign(i, tf.where(away, x.read(i), point))

    def sent(self, leaves: tf.Tensor) -> None:
        """Notes whether what was outgoing leaves; boolean scalar."""
        if self._spec.rule.sends != rules.INCREMENT:
            return

        def note() -> None:
            for i, device in enumerate(self._devices):
                with tf.device(device):
                    self._begin_anew(i)

        tf.cond(leaves, note, lambda: None)

    def _begin_anew(self, i: int) -> None:
        if self._spec.rule.sends != rules.INCREMENT:
            return
        for parameter in self.parameters:
            if parameter.slot is not None:
                x = parameter.variable.store.read(i)
                parameter.slot.store.assign(i, x)


class AdmmCenterExchange(CenterExchange):
    """Reads, takes its steps, and brings its new part: eqs. 3.52 to 3.54.

    The center is the mean of all parts, of which it counts a worker's from
    when that has joined. So it joins at once, and `pushed` stays what it was
    when the worker begins later.

    Args:
        spec: what the worker keeps, and the numbers of a step.
        **kwargs: of `CenterExchange`.
    """

    joins_at_once = True
    takes_steps = True

    def __init__(self, spec: AdmmSpec, **kwargs: Any) -> None:
        super().__init__(spec.parameters, **kwargs)
        self._spec = spec
        self._step = [
            self._compile(device, self._step_on(i))
            for i, device in enumerate(self._devices)
        ]

    def left_over(self) -> Tensors:
        """The worker's new part in the midst of a period, in eager code."""
        changes = []
        for parameter in self.parameters:
            part = core.admm.contribution(
                parameter.point(0),
                parameter.multiplier.store.read(0),
            )
            changes.append(part - parameter.pushed.store.read(0))
            parameter.pushed.store.set_all(part)
        changes += [tf.zeros_like(v.store.read(0)) for v in self._statistics]
        return self._end_to_end(changes)

    def numbers(self, clock: tf.Tensor) -> tf.Tensor:
        """The learning rate of a step: a float64 vector of one."""
        return self._spec.numbers(clock)

    def rates(
        self, num_workers: int, clock: int, numbers: Sequence[float]
    ) -> rules.Rates:
        """None: the center moves by a p-th of what is brought."""
        return self._spec.rates(num_workers, clock, numbers)

    def reads(self, clock: tf.Tensor) -> tf.Tensor:
        """Whether the step just counted needs the center."""
        begins = self.begins(clock)
        if not self._statistics:
            return begins
        return tf.logical_or(begins, self.ends(clock))

    def begins(self, clock: tf.Tensor) -> tf.Tensor:
        """Whether the step just counted is the first of a period."""
        return tf.equal((clock - 1) % self._spec.communication_period, 0)

    def ends(self, clock: tf.Tensor) -> tf.Tensor:
        """Whether it is the last of one."""
        return tf.equal(clock % self._spec.communication_period, 0)

    def step(self, clock: tf.Tensor, arrays: Tensors) -> Tensors:
        """Takes the worker's step.

        Args:
            clock: the worker's local steps, this one too.
            arrays: the center, one for each section, NaN where it is away;
                of any values if it is not needed.

        Returns:
            What the worker brings if a period ends.
        """
        flat = self._shaped(arrays)
        brought = [
            step_on_device(
                self.begins(clock), self.ends(clock), self.numbers(clock), flat
            )
            for step_on_device in self._step
        ]
        return brought[0]

    def _step_on(self, i: int) -> Callable[..., Tensors]:
        def step(
            begins: tf.Tensor,
            ends: tf.Tensor,
            numbers: tf.Tensor,
            flat: Tensors,
        ) -> Tensors:
            centers = self._cut(flat)
            changes = []
            for parameter, center in zip(
                self.parameters, centers, strict=False
            ):
                here = tf.logical_and(begins, ~tf.math.is_nan(center))
                changes.append(
                    admm_step(
                        parameter,
                        i,
                        here,
                        ends,
                        numbers[0],
                        self._spec.elasticity,
                        center,
                    )
                )
            for variable, center in zip(
                self._statistics, centers[len(changes) :], strict=True
            ):
                delta = rules.Follow().delta(
                    variable.store.read(i), {"center": center}
                )
                away = tf.math.is_nan(delta)
                changes.append(tf.where(away, 0 * center, delta))
            return self._end_to_end(changes)

        return step

    def _move_to(self, flat: Flat) -> None:
        pushed = [
            (parameter.pushed.store, i, parameter.pushed.store.read(i))
            for parameter in self.parameters
            for i in range(len(self._devices))
        ]
        self.restart(flat)
        for store, i, value in pushed:
            store.assign(i, value)

    def _begin_anew(self, i: int) -> None:
        for parameter in self.parameters:
            x = parameter.variable.store.read(i)
            for variable, value in (
                (parameter.multiplier, tf.zeros_like(x)),
                (parameter.anchor, x),
                (parameter.pushed, x),
            ):
                variable.store.assign(i, value)
