"""The numbers that one center server holds, and how a message moves them.

No thread, no worker and no network here. The rules are `core`'s, block by
block, so that what is computed stays in the cache.
"""

import math
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.blocks import Block
from tf_elastic.cluster.blocks import blocks_of
from tf_elastic.cluster.blocks import check_finite
from tf_elastic.cluster.blocks import may_overflow
from tf_elastic.cluster.blocks import put_block
from tf_elastic.cluster.blocks import put_deltas
from tf_elastic.cluster.blocks import sum_of_squares
from tf_elastic.cluster.center.finite_bounds import Bounds
from tf_elastic.cluster.center.sent_points import SentPoints
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import np_dtype
from tf_elastic.core.arrays import widened
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import Rates
from tf_elastic.core.rules import Rule
from tf_elastic.core.rules.base import CENTER

Arrays = list[np.ndarray]


class CenterState:
    """The parameters of one center server, and what its rule keeps with them.

    Not thread-safe.

    Args:
        index: of the server among the center servers.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.version = 0  # pushes (synchronous: rounds) applied
        self.description: dict[str, Any] | None = None
        self._layout: Layout  # as soon as it is described
        # Of the rule by name, one array for each section; of a section whose
        # own rule keeps less an empty one.
        self.slots: dict[str, Arrays] = {}
        self._last_rates: Rates = {}  # with `Rule.numbers`
        self._bounds = Bounds(index)
        self.sent = SentPoints[Arrays]()  # of a rule that remembers

    @property
    def layout(self) -> Layout | None:
        """Of the model; None if none is known."""
        return None if self.description is None else self._layout

    @property
    def rule(self) -> Rule:
        """Of the parameters."""
        return self._layout.rule

    @property
    def arrays(self) -> Arrays | None:
        """The center, one array for each section; None if there is none."""
        return self.slots.get(CENTER)

    @property
    def values(self) -> Arrays:
        """The center, which there is."""
        return self.slots[CENTER]

    def check_begun(self) -> None:
        """Raises a `CenterEmptyError` if there is no center."""
        if self.arrays is None:
            raise errors.CenterEmptyError(
                f"center {self.index} holds no parameters yet"
            )

    def describe(self, description: dict[str, Any]) -> None:
        """Notes what a model's parameters look like, and their rule.

        Raises:
            MessageError: it is no description; nothing has changed.
        """
        layout = Layout.from_description(description)
        self.description, self._layout = description, layout

    def begin(self, values: Arrays) -> None:
        """Takes first values, after `describe`."""
        sections = self._layout.sections
        states = [
            self._layout.rule_of(section).init(value)
            for section, value in zip(sections, values, strict=True)
        ]
        names = dict.fromkeys(name for state in states for name in state)
        self.slots = {
            name: [
                np.ascontiguousarray(state[name])
                if name in state
                else np.empty(0, value.dtype)
                for state, value in zip(states, values, strict=True)
            ]
            for name in names
        }
        self._bounds.forget(len(values))

    def check(
        self,
        rates: Rates,
        answers_difference: bool | None = None,
        at_rest: Sequence[Sequence[int]] = (),
    ) -> None:
        """Refuses what the rule cannot take.

        Args:
            rates: of a push.
            answers_difference: whether the push is answered so; None if it
                does not matter.
            at_rest: runs of variables.

        Raises:
            MessageError: with the name and the value.
        """
        if answers_difference not in (None, self.rule.answers_difference):
            raise errors.MessageError(
                f"center {self.index} goes by the rule {self.rule.name!r}, "
                "which has no such exchange"
            )
        self._layout.check_runs(at_rest)
        try:
            self.rule.check(rates)
        except ValueError as error:
            raise errors.MessageError(str(error)) from error

    # Copies.

    def shown(self) -> Arrays:
        """What is evaluated and saved, as it travels."""
        return self._as_sent(
            [
                array if array.size else center
                for array, center in zip(
                    self.slots[self.rule.shown], self.values, strict=True
                )
            ]
        )

    def sent_values(self) -> Arrays:
        """The center, as it travels."""
        return self._as_sent(self.values)

    @property
    def dtypes(self) -> list[np.dtype]:
        """Of what travels, one for each section."""
        return [np_dtype(section.dtype) for section in self._layout.sections]

    def _as_sent(self, arrays: Arrays) -> Arrays:
        return [
            array.astype(dtype)
            for array, dtype in zip(arrays, self.dtypes, strict=True)
        ]

    def points(self, worker: int, room: Arrays | None = None) -> Arrays:
        """What a worker goes on from, in new arrays or in `room`."""
        if room is None:
            room = self._layout.empty_parts(self.index)
        for k, part, rule, parent, _ in self._blocks():
            room[k][part] = rule.begin(parent, self._last_rates)
        if self.rule.remembers:
            copies = [array.copy() for array in room]
            self.sent.note(worker, self.version, copies)
        return room

    def kept(self) -> tuple[dict[str, Any], Arrays]:
        """Copies of all that is kept; `keep` takes them back."""
        return {
            "version": self.version,
            "description": self.description,
            "slots": list(self.slots),
            "rates": self._last_rates,
        }, [array.copy() for arrays in self.slots.values() for array in arrays]

    def keep(self, state: dict[str, Any], arrays: Arrays) -> None:
        """Takes over what `kept` gave."""
        self.describe(state["description"])
        self.version = state["version"]
        self._last_rates = dict(state["rates"])
        n = len(self._layout.sections)
        self.slots = {
            name: [*map(widened, arrays[k * n : (k + 1) * n])]
            for k, name in enumerate(state["slots"])
        }
        self._bounds.forget(n)

    # Messages.

    def put_deltas(self, messages: Arrays, out: Arrays | None = None) -> Arrays:
        """What of messages moves the center.

        Args:
            messages: of one worker.
            out: what to fill; None to overwrite `messages`.
        """
        out = messages if out is None else out
        put_deltas(self._layout, self.slots, messages, out)
        return out

    @may_overflow
    def exchange(
        self, points: Arrays, rates: Rates, worker: int, deltas: Arrays
    ) -> float:
        """Takes a worker's points, in one pass.

        Args:
            points: the worker's.
            rates: of the push.
            worker: whose push.
            deltas: what to fill with `put_deltas`; may be `points`.

        Returns:
            The sum of the squares of the deltas of parameters.

        Raises:
            NonFiniteError: the center is as before.
        """
        now = self._rates_now(rates)
        moved, squares = self._room(), [0.0] * len(points)
        for k, part, rule, parent, _ in self._blocks():
            delta = rule.delta(points[k][part], parent)
            squares[k] += sum_of_squares(delta)
            put_block(moved, k, part, rule.apply(parent, delta, now[k]))
            deltas[k][part] = delta
        if not np.isfinite(squares).all():
            # Finite parameters may be too far from the center, too; or it is
            # but the squares that are too large.
            self.check_finite(deltas, worker)
        for k, total in enumerate(squares):
            if not self._stays_finite(k, total, now):
                self._bounds.check(moved, k, self.dtypes[k])
        self._become(moved, rates, now)
        return self._of_parameters(squares)

    @may_overflow
    def apply(
        self,
        deltas: Arrays,
        rates: Rates,
        context: Context | None = None,
        worker: int | None = None,
        sent: Arrays | None = None,
        at_rest: Sequence[Sequence[int]] = (),
    ) -> float:
        """Moves the center by deltas.

        Args:
            deltas: of a worker, or the sum of several ones'.
            rates: of the push.
            context: of it; None for one worker's, that is not late.
            worker: whose they are, if they may not be finite.
            sent: see `Rule.apply`.
            at_rest: runs of variables that stay where they are.

        Returns:
            As `exchange`.

        Raises:
            NonFiniteError: the center is as before.
        """
        squares = [sum_of_squares(array) for array in deltas]
        if worker is not None and not np.isfinite(squares).all():
            self.check_finite(deltas, worker)
        now = self._rates_now(rates, context)
        # To move all of it where it is is quicker; but nobody could go back.
        sure = [self._stays_finite(k, t, now) for k, t in enumerate(squares)]
        moved = self.slots if all(sure) else self._room()
        sent = sent or self.values
        for k, part, rule, parent, rests in self._blocks(at_rest):
            if rests:
                put_block(moved, k, part, rule.rest(parent))
                continue
            delta, then = deltas[k][part], sent[k][part]
            put_block(moved, k, part, rule.apply(parent, delta, now[k], then))
        if not all(sure):
            for k in range(len(squares)):
                self._bounds.check(moved, k, self.dtypes[k])
        self._become(moved, rates, now)
        return self._of_parameters(squares)

    @may_overflow
    def follow(
        self,
        points: Arrays,
        rates: Rates,
        move: Callable[..., dict[str, np.ndarray]],
    ) -> None:
        """Moves by what a neighbour in a tree has sent; see `core.one_way`.

        Args:
            points: where it was; or, of an answer, the differences.
            rates: this node's own.
            move: `from_child`, `from_parent` or `from_answer`.

        Raises:
            NonFiniteError: all is as before.
        """
        now, moved = self._rates_now(rates), self._room()
        for k, part, rule, slots, _ in self._blocks():
            point = points[k][part]
            put_block(moved, k, part, move(rule, point, slots, now[k]))
        for k in range(len(points)):
            self._bounds.check(moved, k, self.dtypes[k])
        self._become(moved, rates, now)
        self._bounds.forget(len(self.values))
        self.version += 1

    def check_finite(self, values: Arrays, worker: int) -> None:
        """Refuses NaN and infinity, by the name of the variable.

        Raises:
            NonFiniteError: there is one.
        """
        check_finite(self._layout, self.index, values, worker)

    # Pieces.

    def _blocks(self, at_rest: Sequence[Sequence[int]] = ()) -> Iterator[Block]:
        return blocks_of(self._layout, self.slots, self.index, at_rest)

    def _rates_now(
        self, rates: Rates, context: Context | None = None
    ) -> list[Rates]:
        """What each section's rule makes of rates."""
        context = context or Context(float(self.version))
        context = context._replace(kept=self._last_rates)
        return [
            self._layout.rule_of(section).rates_at(rates, context)
            for section in self._layout.sections
        ]

    def _become(
        self, slots: dict[str, Arrays], rates: Rates, now: Sequence[Rates]
    ) -> None:
        """Takes over what an update has led to."""
        kept = dict(rates)
        for section, found in zip(self._layout.sections, now, strict=True):
            if section.role == PARAMETERS:
                kept |= {name: found[name] for name in self.rule.numbers}
        self.slots, self._last_rates = slots, kept

    def _stays_finite(
        self, k: int, squares: float, now: Sequence[Rates]
    ) -> bool:
        """Whether a section does, by the sum of the squares of its delta."""
        section, largest = self._layout.sections[k], math.sqrt(squares)
        rule, dtype = self._layout.rule_of(section), np_dtype(section.dtype)
        return self._bounds.hold(rule, k, self.slots, largest, now[k], dtype)

    def _of_parameters(self, squares: Sequence[float]) -> float:
        """The sum over the sections of parameters."""
        sections = zip(self._layout.sections, squares, strict=True)
        return sum(total for s, total in sections if s.role == PARAMETERS)

    def _room(self) -> dict[str, Arrays]:
        """As `slots`, to be filled."""
        return {
            name: [np.empty_like(array) for array in arrays]
            for name, arrays in self.slots.items()
        }
