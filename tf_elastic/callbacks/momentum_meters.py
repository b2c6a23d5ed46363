"""What a momentum controller measures: staleness, and total momentum."""

import collections
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.cluster import watch
from tf_elastic.cluster.center import total_momentum
from tf_elastic.core import momentum_control
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import Nesterov
from tf_elastic.optimizers.push_optimizer import GradientPush
from tf_elastic.optimizers.push_optimizer import LastPushes

# The median over so many coordinates of each worker is enough.
_MOST_COORDINATES = 100_000


class StalenessReading(NamedTuple):
    """How late gradients are, and where the center is."""

    staleness: float  # updates by others between a read and its push, a mean
    update: float  # updates that the center has seen


class MomentumReading(NamedTuple):
    """What momentum and asynchrony make together."""

    total: float  # the total momentum
    asynchrony: float  # the part of it that is not the center's own momentum


class RoundRobinStaleness:
    """Of the workers of one process: known, since they take turns.

    Args:
        optimizer: in training.
        num_workers: p.
    """

    def __init__(self, optimizer: GradientPush, num_workers: int) -> None:
        self._optimizer = optimizer
        self._num_workers = num_workers

    def read(self) -> StalenessReading:
        """What it is now."""
        step = self._optimizer.center_step
        pushes = 0 if step is None else int(step.numpy())
        return StalenessReading(
            float(self._num_workers - 1), float(pushes * self._num_workers)
        )


class ClusterStaleness:
    """Of the pushes that the center servers have seen since the last look.

    At the first look, of all that they remember.

    Args:
        look: gives every center server's status.
    """

    def __init__(self, look: Any) -> None:
        self._watch = watch.ClusterWatch(look)

    def read(self) -> StalenessReading | None:
        """The mean of the new pushes; None if there are none.

        None also if all center servers are away.
        """
        view = self._watch.view()
        if view.first is None or not view.staleness.versions.size:
            return None
        return StalenessReading(
            float(view.staleness.versions.mean()), float(view.first["version"])
        )


def effective_rate(
    optimizer: GradientPush,
    learning_rate: float,
    update: float,
    staleness: float,
) -> float:
    """The rate of an update, after all that the center's rule makes of it."""
    rates = optimizer.center_rule.rates_at(
        {"learning_rate": learning_rate},
        Context(update, max(staleness, 1.0)),
    )
    return float(rates["learning_rate"])


class TotalMomentum:
    """Of a center in this process, from three exchanges in a row.

    After the first the center is known. Those between the pushes of the
    second are where the workers go on from. At the third they push the
    gradients that they took there.

    Args:
        optimizer: in training.
    """

    NEEDS = 3

    def __init__(self, optimizer: GradientPush) -> None:
        self._optimizer = optimizer
        self._kept: collections.deque[LastPushes] = collections.deque(
            maxlen=self.NEEDS
        )

    def record(self) -> None:
        """Notes the exchange that was just made."""
        pushes = self._optimizer.last_pushes(_MOST_COORDINATES)
        if self._kept and self._kept[-1].count != pushes.count - 1:
            self._kept.clear()
        self._kept.append(pushes)

    def read(self) -> MomentumReading | None:
        """What it is now; None if the last three are not all known."""
        if len(self._kept) < self.NEEDS:
            return None
        first, second, third = self._kept
        p = len(second.points)
        path = np.concatenate(
            [
                first.center[None],
                self._centers(first, second),
                self._centers(second, third)[:1],
            ]
        )
        before = first.count * p  # updates before those of the second
        rates = [
            effective_rate(
                self._optimizer,
                (second if i < p else third).learning_rate,
                before + i,
                p - 1 if first.count else min(i, p - 1),
            )
            for i in range(1, p + 1)
        ]
        total = momentum_control.total_momentum(
            path, third.gradients, rates, second.resolution
        )
        if total is None:
            return None
        return MomentumReading(total, total - third.momentum)

    def _centers(self, before: LastPushes, pushes: LastPushes) -> np.ndarray:
        """The centers after each of these pushes."""
        if isinstance(self._optimizer.center_rule, Nesterov):
            return momentum_control.plain_path(
                before.center, pushes.points, pushes.momentum
            )
        return pushes.points


class ClusterTotalMomentum:
    """Of a center on servers: what they have read since the last look.

    The median over the pushes of all workers and over all center servers,
    each of which has looked at its own part. A server remembers the newest
    64; at the first look it is all of these.

    Args:
        look: gives every center server's status.
    """

    def __init__(self, look: Any) -> None:
        self._look = look
        self._seen: dict[int, int] = {}  # of each server, the newest number

    def read(self) -> MomentumReading | None:
        """The median of the new readings; None if there are none.

        None also if all center servers are away.
        """
        new: list[total_momentum.Reading] = []
        for index, status in enumerate(self._look()):
            readings = [
                total_momentum.Reading(*entry)
                for entry in (status or {}).get("total_momentum", ())
            ]
            if not readings:
                continue
            seen = self._seen.get(index, 0)
            if readings[-1].number < seen:
                seen = 0  # The server has begun anew.
            new += [r for r in readings if r.number > seen]
            self._seen[index] = readings[-1].number
        if not new:
            return None
        return MomentumReading(
            float(np.median([r.total_momentum for r in new])),
            float(np.median([r.total_momentum - r.momentum for r in new])),
        )
