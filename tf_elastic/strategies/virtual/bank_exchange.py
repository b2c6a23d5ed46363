"""Exchanges between workers of a bank and their center, move by move.

The moves are those of `timeline.virtual.moves`, the rules `core`'s. Here is
where the arrays are: a worker is live or in its row, its message and the answer
in its mail; the center is `BankCenter`. What is computed is
one function over all variables for each piece, compiled by XLA if asked for.
Rows are taken out and put back outside of it: XLA would copy all of them.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.optimizers.compiled import compile_for
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.closing import Closing
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.stores import Bank
from tf_elastic.strategies.virtual.bank_center import BankCenter
from tf_elastic.strategies.virtual.mail import Mail
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.moment import RatesOfMoment
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.pieces import Parents
from tf_elastic.strategies.virtual.pieces import Pieces
from tf_elastic.strategies.virtual.places import Live
from tf_elastic.strategies.virtual.places import Place
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.places import Tensors
from tf_elastic.strategies.virtual.places import WorkerValues
from tf_elastic.strategies.virtual.sent_points import SentPoints
from tf_elastic.strategies.virtual.set_anew import under_way_of
from tf_elastic.strategies.virtual.turns import Turns
from tf_elastic.strategies.virtual.under_way import UnderWay
from tf_elastic.timeline.virtual import moves


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
        num_mails: rows for messages, of a tree, which may be more later. None
            for one of each worker.
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
        num_mails: int | None = None,
    ) -> None:
        self.kinds = kinds
        self.waits: Collection[int] = kinds if is_before else ()  # See `Turns`.
        self._is_before = is_before
        self.parameters = list(spec.parameters)
        self.statistics = list(statistics)
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
        self._center = BankCenter(spec, self.statistics)
        if num_mails is None:
            self.mail = Mail(shapes, dtypes, bank.num_workers, device)
        else:
            begin = self._center.all_points
            self.mail = Mail(shapes, dtypes, num_mails, device, begin, True)
        # One row: what the messages of a round add up to, if there are any.
        wide = [tf.as_dtype(wide_dtype(dtype.name)) for dtype in dtypes]
        self.total = Mail([] if self.in_turn else shapes, wide, 1, device)
        self._sent = SentPoints(spec, bank.num_workers, device, answers_later)
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
        self._functions: dict[Callable[..., Any], Callable[..., Any]] = {}
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
        mails = (self.mail, self.total, self._sent.mail)
        return [self.rates.numbers, *(v for m in mails for v in m.variables)]

    @property
    def by_variable(self) -> dict[int, list[tf.Variable]]:
        """What is under way of each variable, by its `id`."""
        mails = (self.mail, self.total, self._sent.mail)
        return {
            id(variable): [m.variables[k] for m in mails if m.has(k)]
            for k, variable in enumerate(self._variables)
        }

    def results(self) -> Tensors:
        """Small tensors that are there only when all updates are done."""
        return self._center.smallest()

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
            parents = self._center.read()
            for worker in range(self._bank.num_workers):
                values = self._values(Row(tf.constant(worker, tf.int64)))
                messages = self._compiled(self._pieces.messages, values)
                deltas = self._compiled(self._pieces.deltas, messages, parents)
                deltas = self._pieces.summands(deltas)
                total = [*map(tf.add, total, deltas)] if total else deltas
            moved = self._compiled(
                self._pieces.applied,
                total,
                parents,
                None,
                self.rates.packed(moment, closing=True),
            )
            self.closing.show(self._center.shown(moved))

    def distance(self) -> tf.Tensor:
        """How far the worker whose turn it is is from the center, L2."""
        values = self._values(Live())
        points = [
            parameter.point_of(stored)
            for parameter, stored in zip(
                self.parameters, values.stored, strict=True
            )
        ]
        return self._compiled(
            self._pieces.distance, points, self._center.points()
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
            self._center.read(),
            self._sent.of(values),
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
            self._pieces.deltas,
            self.mail.row(moment.worker),
            self._center.read(),
        )
        self.mail.put_row(moment.worker, deltas)

    def apply(self, moment: Moment) -> None:
        """The center moves by the delta in the mail."""
        packed = self.rates.packed(moment)
        parents = self._compiled(
            self._pieces.applied,
            self.mail.row(moment.worker),
            self._center.read(),
            self._sent.kept(moment.worker),
            packed,
        )
        self._move_center(parents, packed, moment)

    def arrive(self, moment: Moment) -> None:
        """A message is here: the center moves, and answers."""
        packed = self.rates.packed(moment)
        parents, answers = self._compiled(
            self._pieces.arrived,
            self.mail.row(moment.worker),
            self._center.read(),
            self._sent.kept(moment.worker),
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
            self._center.read(),
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
            self._center.read(),
            packed,
        )
        self._move_center(parents, packed, moment)
        self.total.put_row(first, empty)

    def answer(self, moment: Moment) -> None:
        """The point to go on from."""
        points = self._compiled(
            self._pieces.begun, self._center.read(), self.rates.packed(moment)
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
        parents = self._center.read()
        points = self._compiled(
            self._pieces.begun, parents, self.rates.packed(moment)
        )
        self._go(row, points)
        self._count_from(row, points)
        self._forget_velocity(row)
        for variable, value in zip(
            self.statistics, self._center.statistics_of(parents), strict=True
        ):
            row.set(variable.store, value)

    def join(self, moment: Moment) -> None:
        """A new life of a worker."""
        self._bank.forget(moment.worker)
        self.restart(moment)

    # What the moves are made of: where it is.

    def _values(self, place: Place) -> WorkerValues:
        return WorkerValues.read(place, self.parameters, self.statistics)

    def _copies(self, place: Place) -> Tensors:
        return [place.get(p.variable.store) for p in self.parameters]

    def _sends(self, worker: tf.Tensor, values: WorkerValues) -> None:
        """A message leaves, and its worker goes on if it does not wait."""
        self.rates.is_sent(worker)
        self._sent.keep(worker, values)

    def _move_center(
        self, parents: Parents, packed: Packed, moment: Moment
    ) -> None:
        self._center.write(parents, packed)
        self.updated(moment)

    def _forget_velocity(self, place: Place) -> None:
        for parameter in self.parameters:
            if parameter.velocity is not None:
                store = parameter.velocity.store
                place.set(store, tf.zeros_like(place.get(store)))

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
        with tf.device(self._device):
            if function not in self._functions:
                self._functions[function] = compile_for(
                    self._device, function, self._jit_compile
                )
            return self._functions[function](*args)
