"""The numbers that one center server holds, and how a push moves them.

No thread, no worker and no network here. The rules are `core`'s, block by
block, so that what is computed stays in the cache.
"""

import functools
import math
import operator
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tf_elastic import core
from tf_elastic.cluster import errors
from tf_elastic.cluster.blocks import blocks
from tf_elastic.cluster.blocks import check_finite
from tf_elastic.cluster.blocks import largest
from tf_elastic.cluster.blocks import put_differences
from tf_elastic.cluster.blocks import sum_of_squares
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import Section
from tf_elastic.cluster.total_momentum import TotalMomentum
from tf_elastic.core import center_rules

Arrays = list[np.ndarray]


def _grown(rates: core.PushRates, size: float, message: float) -> float:
    """How large, at most, any rule makes numbers of a size by a message.

    See `core.center_rules.take`: velocity first, then the center by it; a time
    average is between the two. No one term is larger than its like there.
    """
    momentum, rate = abs(rates.momentum), max(rates.learning_rate, 1.0)
    velocity = momentum * size + rate * message
    return size + (1 + momentum) * velocity + rate * message


def _may_overflow(method: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a method overflow without a word, since it looks at the result."""

    @functools.wraps(method)
    def silent(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return method(*args, **kwargs)

    return silent


class Rate(NamedTuple):
    """How far one worker's push moves the center: core.push."""

    beta: float
    num_workers: int


class PushRate(NamedTuple):
    """By which numbers a center rule takes one worker's push."""

    rates: core.PushRates
    num_workers: int


class HeldPart:
    """The parameters of one center server; not thread-safe.

    Args:
        index: of the server among the center servers.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.version = 0  # pushes (synchronous: rounds) applied
        self.arrays: Arrays | None = None
        self.description: dict[str, Any] | None = None
        self.layout: Layout | None = None
        self.rule: core.CenterRule | None = None  # None: elastic averaging
        # What the rule keeps beside the center; empty for statistics.
        self.slots: dict[str, Arrays] = {}
        self._last_rate = PushRate(core.PushRates(), 1)
        # At most, of each section's values and of what is kept beside them.
        self._largest: list[float] = []
        # By worker and version, what it was sent, for a rule that compensates.
        self._sent: dict[int, dict[int, Arrays]] = {}
        # Of a center with momentum whose workers push gradients.
        self._total_momentum: TotalMomentum | None = None

    def _describe(self, description: dict[str, Any]) -> None:
        """Notes what a model's parameters look like, and their rule.

        Raises:
            MessageError: it is no description; nothing has changed.
        """
        layout = Layout.from_description(description)
        rule = None
        if layout.rule and layout.rule["method"] in center_rules.METHODS:
            rule = core.CenterRule(**layout.rule)
        self._total_momentum = TotalMomentum.of(rule, layout, self.index)
        self.description, self.layout, self.rule = description, layout, rule

    def _begin(self, values: Arrays) -> None:
        """Takes first values, after `_describe`."""
        self.arrays = values
        self._largest = [math.inf] * len(values)
        if self.rule is None:
            return
        states = [
            center_rules.initial_state(self.rule, array) for array in values
        ]
        self.slots = {
            name: [
                getattr(state, name) if section.role == PARAMETERS
                else np.empty(0, array.dtype)
                for section, array, state in zip(
                    self.layout.sections, values, states, strict=True
                )
            ]
            for name in ("velocity", "average")
            if getattr(states[0], name) is not None
        }

    # Copies.

    def _shown(self) -> Arrays:
        """What is evaluated and saved."""
        shown = self.slots.get("average", self.arrays)
        return [
            (average if average.size else array).copy()
            for array, average in zip(self.arrays, shown, strict=True)
        ]

    def _points(self, worker: int, room: Arrays | None = None) -> Arrays:
        """What a worker goes on from, in new arrays or in `room`."""
        if room is None:
            room = [np.empty_like(array) for array in self.arrays]
        rates = self._last_rate.rates
        for k, section in enumerate(self.layout.sections):
            for part in blocks(room[k].size):
                room[k][part] = (
                    self.arrays[k][part]
                    if self.rule is None or section.role != PARAMETERS
                    else center_rules.answer(
                        self.rule, self._state(k, part), rates
                    )
                )
        if self._total_momentum:
            self._total_momentum.give(worker, self.version, self.arrays)
        if self.rule is not None and self.rule.compensates:
            self._sent.setdefault(worker, {})[self.version] = [
                array.copy() for array in room
            ]
        return room

    def _sent_to(self, worker: int, version: int) -> Arrays | None:
        """Where a worker was when it made a message, if that is known.

        Forgets what is older. (What is newer was under way meanwhile.)

        Args:
            worker: its index.
            version: of the center that it knew.
        """
        sent = self._sent.get(worker, {})
        for older in [v for v in sent if v < version]:
            del sent[older]
        return sent.get(version)

    def _forget_points(self, worker: int) -> None:
        """Forgets what a worker was sent."""
        self._sent.pop(worker, None)
        if self._total_momentum:
            self._total_momentum.forget(worker)

    def _kept(self) -> tuple[dict[str, Any], Arrays]:
        """Copies of all that is kept; `_keep` takes them back."""
        return {
            "version": self.version,
            "description": self.description,
            "slots": list(self.slots),
            "rates": [list(self._last_rate.rates), *self._last_rate[1:]],
        }, [
            array.copy()
            for arrays in (self.arrays, *self.slots.values())
            for array in arrays
        ]

    def _keep(self, state: dict[str, Any], arrays: Arrays) -> None:
        """Takes over what `_kept` gave."""
        self._describe(state["description"])
        self.version = state["version"]
        rates, num_workers = state["rates"]
        self._last_rate = PushRate(core.PushRates(*rates), num_workers)
        n = len(self.layout.sections)
        self.arrays = arrays[:n]
        self._largest = [math.inf] * n
        self.slots = {
            name: arrays[(k + 1) * n : (k + 2) * n]
            for k, name in enumerate(state["slots"])
        }

    # Elastic averaging.

    @_may_overflow
    def _exchange(
        self, points: Arrays, rate: Rate, worker: int, differences: Arrays
    ) -> float:
        """Moves the center by its difference to a worker, in one pass.

        Args:
            points: the worker's.
            rate: of the push.
            worker: whose push.
            differences: what to fill; may be `points`.

        Returns:
            The sum of the squares of the differences of parameters.

        Raises:
            NonFiniteError: the center is as before.
        """
        moved = [np.empty_like(array) for array in self.arrays]
        squares = []
        for k, section in enumerate(self.layout.sections):
            center, point = self.arrays[k], points[k]
            beta, total = self._beta(section, rate), 0.0
            for part in blocks(center.size):
                difference = core.elastic_difference(point[part], center[part])
                total += sum_of_squares(difference)
                moved[k][part] = core.push(
                    center[part], difference, beta, rate.num_workers
                )
                differences[k][part] = difference
            squares.append(total)
        if not np.isfinite(squares).all():
            # Finite parameters may be too far from the center, too; or it is
            # but the squares that are too large.
            self._check_finite(differences, worker)
        for k, section in enumerate(self.layout.sections):
            step = self._beta(section, rate) / rate.num_workers
            step *= math.sqrt(squares[k])
            if not self._stays_finite(k, operator.add, step):
                self._check_moved(moved[k])
        self.arrays = moved
        return sum(
            total
            for section, total in zip(
                self.layout.sections, squares, strict=True
            )
            if section.role == PARAMETERS
        )

    @_may_overflow
    def _apply(
        self, differences: Arrays, rate: Rate, worker: int | None = None
    ) -> None:
        """Moves the center by differences.

        Args:
            differences: of a worker, or the sum of several ones'.
            rate: of the push.
            worker: whose they are, if they may not be finite.

        Raises:
            NonFiniteError: the center is as before.
        """
        squares = [sum_of_squares(array) for array in differences]
        if worker is not None and not np.isfinite(squares).all():
            self._check_finite(differences, worker)
        sections = self.layout.sections
        steps = [
            self._beta(section, rate) / rate.num_workers * math.sqrt(total)
            for section, total in zip(sections, squares, strict=True)
        ]
        sure = self._all_stay_finite(operator.add, steps)
        # To move all of it where it is is quicker; but nobody could go back.
        moved = self.arrays if sure else self._like(self.arrays)
        for k, section in enumerate(sections):
            beta = self._beta(section, rate)
            for part in blocks(moved[k].size):
                moved[k][part] = core.push(
                    self.arrays[k][part],
                    differences[k][part],
                    beta,
                    rate.num_workers,
                )
            if not sure:
                self._check_moved(moved[k])
        self.arrays = moved

    # Whether a push of finite numbers leaves finite ones.

    def _stays_finite(
        self, k: int, grow: Callable[[float, float], float], step: float
    ) -> bool:
        """Whether a section stays finite for sure, and what is kept with it.

        Args:
            k: the section.
            grow: how large, at most, values become of a size by a step.
            step: of the push.
        """
        most = float(ml_dtypes.finfo(self.arrays[k].dtype).max) / 4
        after = grow(self._largest[k], step)
        if not after < most:  # Too large, or not known as yet.
            after = grow(self._largest_now(k), step)
        sure = after < most
        self._largest[k] = after if sure else math.inf
        return sure

    def _all_stay_finite(
        self, grow: Callable[[float, float], float], steps: Sequence[float]
    ) -> bool:
        return all(
            [self._stays_finite(k, grow, step) for k, step in enumerate(steps)]
        )

    def _largest_now(self, k: int) -> float:
        kept = (self.arrays[k], *(slots[k] for slots in self.slots.values()))
        return max((largest(array) for array in kept), default=0.0)

    def _check_moved(self, *moved: np.ndarray) -> None:
        for array in moved:
            for part in blocks(array.size):
                if not np.isfinite(array[part]).all():
                    raise errors.NonFiniteError(
                        f"center {self.index} has not taken a push of finite "
                        "numbers that would make it infinite"
                    )

    @staticmethod
    def _like(arrays: Arrays) -> Arrays:
        return [np.empty_like(array) for array in arrays]

    def _beta(self, section: Section, rate: Rate) -> float:
        if section.role == PARAMETERS:
            return rate.beta
        return min(rate.beta, 1.0)

    # The other rules.

    @_may_overflow
    def _take(
        self,
        messages: Arrays,
        rate: PushRate,
        staleness: int,
        sent: Arrays | None = None,
    ) -> core.PushRates:
        """`core.center_rules.take`, block by block.

        Returns:
            The rates by which the center has moved.

        Raises:
            NonFiniteError: the center is as before.
        """
        rule = self.rule
        now = center_rules.rates_at(
            rule, rate.rates, float(self.version), float(staleness)
        )
        sent = sent or self.arrays
        # What was sent back then may be larger than all there is now.
        sure = not rule.compensates and self._all_stay_finite(
            functools.partial(_grown, now),
            [math.sqrt(sum_of_squares(message)) for message in messages],
        )
        moved, slots = self.arrays, self.slots
        if not sure:
            moved = self._like(moved)
            slots = {name: self._like(kept) for name, kept in slots.items()}
        for k, section in enumerate(self.layout.sections):
            center, message = self.arrays[k], messages[k]
            for part in blocks(center.size):
                if section.role != PARAMETERS:
                    moved[k][part] = core.push(
                        center[part], message[part], 1.0, rate.num_workers
                    )
                    continue
                after = center_rules.take(
                    rule,
                    self._state(k, part),
                    message[part],
                    now,
                    sent[k][part],
                )
                moved[k][part] = after.center
                for name, arrays in slots.items():
                    arrays[k][part] = getattr(after, name)
            if not sure:
                self._check_moved(
                    moved[k], *(arrays[k] for arrays in slots.values())
                )
        self.arrays, self.slots, self._last_rate = moved, slots, rate
        return now

    def _state(self, k: int, part: slice) -> core.CenterState:
        """Views of a block of the center and of what is kept beside it."""
        return core.CenterState(
            self.arrays[k][part],
            *(
                self.slots[name][k][part] if name in self.slots else None
                for name in ("velocity", "average")
            ),
        )

    # Pieces.

    def _statistics_differ(self, values: Arrays) -> None:
        """Turns a worker's statistics into differences, in place."""
        chosen = [
            k
            for k, section in enumerate(self.layout.sections)
            if section.role != PARAMETERS
        ]
        ours = [values[k] for k in chosen]
        put_differences(ours, [self.arrays[k] for k in chosen], ours)

    def _check_finite(self, values: Arrays, worker: int) -> None:
        for section, array in zip(self.layout.sections, values, strict=True):
            check_finite(
                array,
                worker,
                self.layout,
                section,
                self.layout.cut(section, self.index).start,
            )
