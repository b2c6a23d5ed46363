"""Exchanges between workers of a bank and their center, move by move.

The moves are those of `timeline.virtual.moves`, the rules `core`'s. Here is
where the arrays are: a worker is live or in its row, its message and the answer
in its mail; the center has one copy, on the same device. What is computed is
one function over all variables for each piece, compiled by XLA if asked for.
Rows are taken out and put back outside of it: XLA would copy all of them.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.optimizers.compiled import compile_for
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.closing import Closing
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.stores import Bank
from tf_elastic.strategies.virtual.mail import Mail
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.moment import RatesOfMoment
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.pieces import Parents
from tf_elastic.strategies.virtual.pieces import Pieces
from tf_elastic.strategies.virtual.places import Place
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.places import Tensors
from tf_elastic.strategies.virtual.places import WorkerValues
from tf_elastic.strategies.virtual.set_anew import under_way_of
from tf_elastic.strategies.virtual.turns import Turns
from tf_elastic.strategies.virtual.under_way import UnderWay
from tf_elastic.timeline.virtual import moves

_CENTER = "center"


class BankExchange:
    """A fixed set of variables of the workers of a bank.

    Args:
        spec: what is exchanged, by which rule and numbers.
        statistics: see `DeviceExchange`.
        bank: of the workers.
        device: where they all are.
        kinds: of moves that there may be, of `timeline.virtual.moves`.
        is_before: whether workers exchange before their steps.
        answers_later: whether a worker goes on before it is answered.
        p_varies: whether workers come and go.
        written: see `under_way_of`.
        jit_compile: True, False, or "auto".
    """

    closing: Closing | None = None  # See `can_close`.
    under_way: UnderWay | None = None
    turns: Turns | None = None  # of its timeline

    def __init__(
        self,
        spec: Spec,
        statistics: Sequence[ElasticVariable],
        bank: Bank,
        device: str,
        *,
        kinds: Collection[int],
        is_before: bool,
        answers_later: bool,
        p_varies: bool,
        written: Callable[[], tf.Tensor],
        jit_compile: bool | str,
    ) -> None:
        self.kinds = kinds
        self.waits: Collection[int] = kinds if is_before else ()  # See `Turns`.
        self._is_before = is_before
        self.parameters = list(spec.parameters)
        self.statistics = list(statistics)
        self._spec = spec
        self.calls_per_step = spec.calls_per_step
        self._rule = spec.rule
        self.sends = spec.rule.sends
        self._bank = bank
        self._device = device
        self._answers_later = answers_later
        self._jit_compile = jit_compile
        self._variables = [p.variable for p in self.parameters]
        self._variables += self.statistics
        shapes = [variable.shape for variable in self._variables]
        dtypes = [variable.dtype for variable in self._variables]
        self.mail = Mail(shapes, dtypes, bank.num_workers, device)
        # One row: what the messages of a round add up to, if there are any.
        self.total = Mail([] if self.in_turn else shapes, dtypes, 1, device)
        # Where messages were made, of workers that have gone on since.
        is_kept = spec.rule.remembers and answers_later
        parameters = shapes[: len(self.parameters)] if is_kept else []
        self._sent_from = Mail(parameters, dtypes, bank.num_workers, device)
        self.rates = RatesOfMoment(
            spec, bank.num_workers, p_varies, answers_later
        )
        self._pieces = Pieces(
            spec.rule, self.parameters, dtypes, bank.num_workers
        )
        mails = self.mail, self.total
        self._anew = under_way_of(
            self._variables, self._pieces.rule_of, *mails, written
        )
        self._functions: dict[str, Callable[..., Any]] = {}
        # What the optimizer does when the center has moved.
        self.updated: Callable[[Moment], None] = lambda moment: None

    @property
    def moments(self) -> tuple[str, ...]:
        """When a worker may exchange, and after its step, when it tells."""
        return ("before", "after") if self._is_before else ("after",)

    @property
    def in_turn(self) -> bool:
        """Whether each worker's message is an update of its own."""
        return moves.COLLECT not in self.kinds

    @property
    def variables(self) -> list[tf.Variable]:
        """All that is under way."""
        mails = (self.mail, self.total, self._sent_from)
        return [self.rates.numbers, *(v for m in mails for v in m.variables)]

    @property
    def by_variable(self) -> dict[int, list[tf.Variable]]:
        """What is under way of each variable, by its `id`."""
        mails = (self.mail, self.total, self._sent_from)
        return {
            id(variable): [m.variables[k] for m in mails if m.has(k)]
            for k, variable in enumerate(self._variables)
        }

    def results(self) -> Tensors:
        """Small tensors that are there only when all updates are done."""
        smallest = min(
            self.parameters, key=lambda p: p.variable.shape.num_elements()
        ).variable.store
        return [smallest.live[0].read_value(), smallest.centers[0].read_value()]

    def can_close(self) -> None:
        """Prepares to show what an exchange of all would make of centers."""
        self.closing = Closing(self._variables, [0] * len(self._variables))

    def close(self, moment: Moment) -> None:
        """Shows it, in eager code.

        Args:
            moment: now; its worker is one whose rates are those of all.
        """
        if self.closing is not None and not self.closing.is_closed.numpy():
            self._bank.end_turn()
            total: Tensors = []
            parents = self._parents()
            for worker in range(self._bank.num_workers):
                values = self._values(Row(tf.constant(worker, tf.int64)))
                messages = self._compiled(self._pieces.messages, values)
                deltas = self._compiled(self._pieces.deltas, messages, parents)
                total = [*map(tf.add, total, deltas)] if total else deltas
            moved = self._compiled(
                self._pieces.applied,
                total,
                parents,
                None,
                self.rates.packed(moment, closing=True),
            )
            self.closing.show(
                [
                    parent[self._pieces.rule_of(k).shown]
                    for k, parent in enumerate(moved)
                ]
            )

    # The moves.

    def visit(self, moment: Moment, place: Place) -> None:
        """A worker and the center move by each other."""
        values = self._values(place)
        packed = self.rates.packed(moment)
        parents, points = self._compiled(
            self._pieces.visited,
            values,
            self._copies(place),
            self._parents(),
            self._sent(values),
            packed,
        )
        self._move_center(parents, packed, moment)
        self._go(place, points)

    def make(self, moment: Moment) -> None:
        """A worker's message."""
        row = Row(moment.worker)
        values = self._values(row)
        messages = self._compiled(self._pieces.messages, values)
        self.mail.put_row(moment.worker, messages)
        self._sends(moment.worker, values)
        if self._answers_later:
            self._count_from(row, [stored[0] for stored in values.stored])

    def turn_over(self, moment: Moment) -> None:
        """It settles by its mail, which is then what was done before."""
        row = Row(moment.worker)
        values = self._values(row)
        messages, points = self._compiled(
            self._pieces.turned_over, values, self.mail.row(moment.worker)
        )
        self.mail.put_row(moment.worker, messages)
        self._sends(moment.worker, values)
        for parameter, point in zip(self.parameters, points, strict=True):
            row.set(parameter.variable.store, point)
        self._count_from(row, points)

    def read(self, moment: Moment) -> None:
        """A message's delta to the center as it is now."""
        deltas = self._compiled(
            self._pieces.deltas, self.mail.row(moment.worker), self._parents()
        )
        self.mail.put_row(moment.worker, deltas)

    def apply(self, moment: Moment) -> None:
        """The center moves by the delta in the mail."""
        packed = self.rates.packed(moment)
        parents = self._compiled(
            self._pieces.applied,
            self.mail.row(moment.worker),
            self._parents(),
            self._sent_of_row(moment.worker),
            packed,
        )
        self._move_center(parents, packed, moment)

    def arrive(self, moment: Moment) -> None:
        """A message is here: the center moves, and answers."""
        packed = self.rates.packed(moment)
        parents, answers = self._compiled(
            self._pieces.arrived,
            self.mail.row(moment.worker),
            self._parents(),
            self._sent_of_row(moment.worker),
            packed,
        )
        self._move_center(parents, packed, moment)
        self.mail.put_row(moment.worker, answers)

    def add(self, moment: Moment) -> None:
        """A message of a round."""
        first = tf.constant(0, tf.int64)
        total, deltas = self._compiled(
            self._pieces.added,
            self.mail.row(moment.worker),
            self._parents(),
            self.total.row(first),
        )
        self.total.put_row(first, total)
        self.mail.put_row(moment.worker, deltas)
        self.rates.is_of_round(moment.worker)

    def collect(self, moment: Moment) -> None:
        """The center moves by the sum of a round."""
        first = tf.constant(0, tf.int64)
        packed = self.rates.packed(moment)
        parents, empty = self._compiled(
            self._pieces.collected,
            self.total.row(first),
            self._parents(),
            packed,
        )
        self._move_center(parents, packed, moment)
        self.total.put_row(first, empty)

    def answer(self, moment: Moment) -> None:
        """The point to go on from."""
        points = self._compiled(
            self._pieces.begun, self._parents(), self.rates.packed(moment)
        )
        self.mail.put_row(moment.worker, points)

    def settle(self, moment: Moment, place: Place | None = None) -> None:
        """A worker does what the rule says about its mail."""
        place = place or Row(moment.worker)
        points = self._compiled(
            self._pieces.settled,
            self._copies(place),
            self.mail.row(moment.worker)[: len(self.parameters)],
            self.rates.packed(moment),
        )
        self._go(place, points)

    def restart(self, moment: Moment) -> None:
        """A worker begins at the center, with no velocity."""
        row = Row(moment.worker)
        parents = self._parents()
        points = self._compiled(
            self._pieces.begun, parents, self.rates.packed(moment)
        )
        self._go(row, points)
        self._count_from(row, points)
        for parameter in self.parameters:
            if parameter.velocity is not None:
                store = parameter.velocity.store
                row.set(store, tf.zeros_like(row.get(store)))
        for variable, parent in zip(
            self.statistics, parents[len(self.parameters) :], strict=True
        ):
            row.set(variable.store, parent[_CENTER])

    def join(self, moment: Moment) -> None:
        """A new life of a worker."""
        self._bank.forget(moment.worker)
        self.restart(moment)

    # What the moves are made of: where it is.

    def _values(self, place: Place) -> WorkerValues:
        return WorkerValues.read(place, self.parameters, self.statistics)

    def _copies(self, place: Place) -> Tensors:
        return [place.get(p.variable.store) for p in self.parameters]

    def _parents(self) -> Parents:
        """What the center keeps."""
        parents: Parents = []
        for parameter in self.parameters:
            kept = {
                name: slot.store.live[0].read_value()
                for name, slot in parameter.parent.items()
            }
            center = parameter.variable.store.centers[0].read_value()
            parents.append({self._rule.shown: center, **kept})
        for variable in self.statistics:
            center = variable.store.centers[0].read_value()
            parents.append({_CENTER: center})
        return parents

    def _sends(self, worker: tf.Tensor, values: WorkerValues) -> None:
        """A message leaves, and its worker goes on if it does not wait."""
        self.rates.is_sent(worker)
        if self._sent_from.variables:
            self._sent_from.put_row(worker, self._sent(values) or [])

    def _sent_of_row(self, worker: tf.Tensor) -> Tensors | None:
        """The points that a worker was given, if the rule remembers them."""
        if not self._rule.remembers:
            return None
        if self._sent_from.variables:
            return self._sent_from.row(worker)
        return self._sent(self._values(Row(worker)))

    def _sent(self, values: WorkerValues) -> Tensors | None:
        if not self._rule.remembers:
            return None
        return [
            parameter.point_of(stored)
            for parameter, stored in zip(
                self.parameters, values.stored, strict=True
            )
        ]

    def _move_center(
        self, parents: Parents, packed: Packed, moment: Moment
    ) -> None:
        pairs = zip(self._variables, parents, strict=True)
        for k, (variable, parent) in enumerate(pairs):
            shown = self._pieces.rule_of(k).shown
            variable.store.centers[0].assign(parent[shown], read_value=False)
        for parameter, parent in zip(self.parameters, parents, strict=False):
            for name, slot in parameter.parent.items():
                slot.store.live[0].assign(parent[name], read_value=False)
        for name, variable in self._spec.kept.items():
            variable.assign(packed[0][name])
        self.updated(moment)

    def _go(self, place: Place, points: Sequence[tf.Tensor]) -> None:
        for parameter, point in zip(self.parameters, points, strict=True):
            place.set(parameter.variable.store, point)
        if not self._answers_later:
            self._count_from(place, points)

    def _count_from(self, place: Place, points: Sequence[tf.Tensor]) -> None:
        """What a worker does from here on is its next increment."""
        if self._rule.sends != rules.INCREMENT:
            return
        for parameter, point in zip(self.parameters, points, strict=True):
            if parameter.slot is not None:
                place.set(parameter.slot.store, point)

    def _compiled(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function of tensors, as one graph, on the device."""
        name = function.__name__
        with tf.device(self._device):
            if name not in self._functions:
                self._functions[name] = compile_for(
                    self._device, function, self._jit_compile
                )
            return self._functions[name](*args)
