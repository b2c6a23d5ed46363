"""An exchange in which the workers of one process push to their center."""

from collections.abc import Sequence

import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import center_rules
from tf_elastic.optimizers import exchange_rules
from tf_elastic.optimizers.exchange_rules import PushParameter
from tf_elastic.optimizers.exchange_rules import PushRule
from tf_elastic.strategies.device_exchange import DeviceExchange
from tf_elastic.strategies.device_exchange import Tensors
from tf_elastic.strategies.device_exchange import sum_in_order
from tf_elastic.strategies.variables import ElasticVariable


class PushExchange(DeviceExchange):
    """Workers push messages, the center takes them by a `core.CenterRule`.

    Args:
        rule: what is pushed, and what the center does with it.
        scheme: "round_robin" (one worker after another) or "gauss_seidel"
            (the center takes the sum of all messages at once).
        statistics, devices, jit_compile: see `DeviceExchange`.
    """

    moments = ("after",)

    def __init__(
        self,
        rule: PushRule,
        scheme: str,
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        jit_compile: bool | str,
    ) -> None:
        super().__init__(rule.parameters, statistics, devices, jit_compile)
        self._rule = rule
        self._run = getattr(self, scheme)

    def run(self, clock: tf.Tensor, count: tf.Tensor) -> None:
        """Exchanges once.

        Args:
            clock: local steps of each worker, integer scalar.
            count: exchanges before this one, integer scalar.
        """
        self._run(self._rates_of_clock(clock), tf.cast(count, tf.float64))

    def _rates_of_clock(self, clock: tf.Tensor) -> core.PushRates:
        numbers = self._rule.numbers(clock)
        return self._rule.rates(
            self.num_workers,
            tf.unstack(numbers, num=numbers.shape[0]),
        )

    def round_robin(self, rates: core.PushRates, count: tf.Tensor) -> None:
        """One worker after another; each goes on from its own center."""
        p = self.num_workers
        states = [self._state(parameter, 0) for parameter in self.parameters]
        centers = [v.center_copies[0].read_value() for v in self._statistics]
        for i in range(p):
            # Its last visit was p - 1 updates ago, or it had none.
            others = tf.where(count > 0, float(p - 1), float(i))
            now = self._rates_at(
                rates,
                count * p + i,
                tf.cast(tf.maximum(others, 1.0), tf.float64),
            )
            states, centers = self._on(i, self._visit, now, states, centers)
        self._keep(states, centers)

    def gauss_seidel(self, rates: core.PushRates, count: tf.Tensor) -> None:
        """All at once: the center first, then the workers."""
        states, answers = self._taken(rates, count)
        count_ = len(self.parameters)
        self._keep(states, answers[count_:])
        for i in range(self.num_workers):
            self._on(i, self._go_on, answers[:count_])

    def centers_after(self, clock: tf.Tensor, count: tf.Tensor) -> Tensors:
        """What would be shown if the center took what all have to push."""
        states, answers = self._taken(
            self._rates_of_clock(clock), tf.cast(count, tf.float64)
        )
        return [
            center_rules.shown(core.CenterState(*state)) for state in states
        ] + answers[len(self.parameters) :]

    def _taken(
        self, rates: core.PushRates, count: tf.Tensor
    ) -> tuple[list, list]:
        """The center's states after all messages, and its answers."""
        workers = range(self.num_workers)
        messages = [self._on(i, self._messages) for i in workers]
        now = self._rates_at(rates, count, tf.constant(1.0, tf.float64))
        answers: list = [None] * len(self._variables)
        states: list = [None] * len(self.parameters)
        for owner in sorted(set(self._owners)):
            mine = self._owned_by(owner)
            taken = self._on(
                owner,
                self._take_owned,
                now,
                [[of_worker[k] for of_worker in messages] for k in mine],
            )
            for k, (state, answer) in zip(mine, taken, strict=True):
                answers[k] = answer
                if k < len(states):
                    states[k] = state
        return states, answers

    def _rates_at(
        self, rates: core.PushRates, update: tf.Tensor, staleness: tf.Tensor
    ) -> tf.Tensor:
        """The numbers of one push, a float64 vector."""
        now = center_rules.rates_at(
            self._rule.center_rule, rates, update, staleness
        )
        return tf.stack(
            [
                exchange_rules.in_float64(0.0 if rate is None else rate)
                for rate in now
            ]
        )

    @staticmethod
    def _rates_of(numbers: tf.Tensor, dtype: tf.DType) -> core.PushRates:
        return core.PushRates(*tf.unstack(tf.cast(numbers, dtype)))

    # Pieces; each runs compiled on one device.

    def _visit(
        self,
        i: int,
        numbers: tf.Tensor,
        states: Sequence[Sequence[tf.Tensor]],
        centers: Sequence[tf.Tensor],
    ) -> tuple[list[Tensors], Tensors]:
        rule = self._rule.center_rule
        moved = []
        for parameter, given in zip(self.parameters, states, strict=True):
            rates = self._rates_of(numbers, parameter.variable.dtype)
            state = core.CenterState(*given)
            state = center_rules.take(
                rule,
                state,
                self._message(parameter, i, state.center),
                rates,
                parameter.point(i) if rule.compensates else None,
            )
            self._arrive(
                parameter, i, center_rules.answer(rule, state, rates)
            )
            moved.append(list(state))
        return moved, [
            self._follow(variable.worker_copies[i], center, 1)
            for variable, center in zip(
                self._statistics, centers, strict=True
            )
        ]

    def _messages(self, i: int) -> Tensors:
        return [
            self._message(
                parameter, i, self._state(parameter, i).center
            )
            for parameter in self.parameters
        ] + [v.worker_copies[i].read_value() for v in self._statistics]

    def _take_owned(
        self,
        owner: int,
        numbers: tf.Tensor,
        messages: Sequence[Sequence[tf.Tensor]],
    ) -> list[tuple[list[tf.Tensor], tf.Tensor]]:
        rule = self._rule.center_rule
        taken = []
        for k, from_workers in zip(
            self._owned_by(owner), messages, strict=True
        ):
            total = sum_in_order(from_workers)
            if k >= len(self.parameters):
                center = self._variables[k].center_copies[owner]
                taken.append(
                    ([], self._follow(total, center, len(from_workers)))
                )
                continue
            parameter = self.parameters[k]
            rates = self._rates_of(numbers, parameter.variable.dtype)
            state = center_rules.take(
                rule, self._state(parameter, owner), total, rates
            )
            taken.append(
                (list(state), center_rules.answer(rule, state, rates))
            )
        return taken

    def _go_on(self, i: int, answers: Sequence[tf.Tensor]) -> Tensors:
        for parameter, answer in zip(self.parameters, answers, strict=True):
            self._arrive(parameter, i, answer)
        return []

    # Of one variable.

    def _state(self, parameter: PushParameter, i: int) -> core.CenterState:
        """The center as device i has it."""
        shown = parameter.variable.center_copies[i].read_value()
        velocity = parameter.velocity
        if velocity is not None:
            velocity = velocity.worker_copies[i].read_value()
        if parameter.center is None:
            return core.CenterState(shown, velocity)
        return core.CenterState(
            parameter.center.worker_copies[i].read_value(), velocity, shown
        )

    def _message(
        self, parameter: PushParameter, i: int, center: tf.Tensor
    ) -> tf.Tensor:
        kind = self._rule.message
        if kind == exchange_rules.GRADIENT:
            return parameter.slot.worker_copies[i].read_value()
        begin = center
        if kind == exchange_rules.UPDATE:
            begin = parameter.slot.worker_copies[i].read_value()
        return core.elastic_difference(parameter.point(i), begin)

    def _arrive(
        self, parameter: PushParameter, i: int, answer: tf.Tensor
    ) -> None:
        """Worker i goes on from the center's answer."""
        parameter.variable.worker_copies[i].assign(answer, read_value=False)
        if self._rule.message == exchange_rules.UPDATE:
            parameter.slot.worker_copies[i].assign(answer, read_value=False)

    def _follow(
        self, total: tf.Tensor, center: tf.Tensor, num_summed: int
    ) -> tf.Tensor:
        """A statistic's center, moved to the workers' mean."""
        difference = total - num_summed * center
        return core.push(
            center,
            difference,
            tf.ones([], difference.dtype),
            self.num_workers,
        )

    def _keep(
        self,
        states: Sequence[Sequence[tf.Tensor]],
        statistics: Sequence[tf.Tensor],
    ) -> None:
        """Writes the center back, to all devices."""
        states = [core.CenterState(*state) for state in states]
        self._set_centers(
            [center_rules.shown(state) for state in states]
            + list(statistics)
        )
        for i, device in enumerate(self._devices):
            with tf.device(device):
                for parameter, state in zip(
                    self.parameters, states, strict=True
                ):
                    for kept, value in (
                        (parameter.center, state.center),
                        (parameter.velocity, state.velocity),
                    ):
                        if kept is not None:
                            kept.worker_copies[i].assign(
                                value, read_value=False
                            )
