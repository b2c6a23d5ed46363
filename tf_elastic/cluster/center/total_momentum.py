"""The total momentum, as a center server can measure it.

A server sees what no worker does: every center, every gradient, and at which
center each was taken. It keeps a sample of the centers that workers are at.
When a gradient comes, the center that it was taken at, the one before and the
one after are known, and that is all that `core.momentum_control` asks for.
"""

import collections
import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tf_elastic.cluster.center.sent_points import SentPoints
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import np_dtype
from tf_elastic.core import momentum_control
from tf_elastic.core.rules import Rates

# Of the parameters of this server; a median over so many is enough.
_COORDINATES = 1000
# A status has the newest; what is older says little about now.
_READINGS_KEPT = 64


class Reading(NamedTuple):
    """The total momentum that one push shows. JSON."""

    number: int  # from 1, grows while the server lives
    worker: int  # whose push
    momentum: float  # the center's own, in this update
    total_momentum: float


@dataclasses.dataclass
class _Version:
    """A center, sampled: where it came from, and how it went on."""

    number: int
    center: np.ndarray  # float64, shape (coordinates,)
    before: np.ndarray | None = None  # None if this server has not seen it
    after: np.ndarray | None = None  # None as long as it is the newest
    rates: Rates | None = None  # by which it went on


class TotalMomentum:
    """Of one server's part of a center.

    Not thread-safe, but for `readings`.

    Only pushes are measured whose point this process has given out itself: a
    center that is started again counts its versions anew, from a snapshot.
    So a gradient from before gives no reading, and neither does one that was
    taken at the first center.

    A push costs two samples and no more. The medians are taken when somebody
    asks for them.

    Args:
        layout: of the model.
        shard: index of this server; it fixes the sample.
    """

    def __init__(self, layout: Layout, shard: int) -> None:
        sizes = [
            size if section.role == PARAMETERS else 0
            for size, section in zip(
                layout.shard_sizes(shard), layout.sections, strict=True
            )
        ]
        share = min(_COORDINATES / max(sum(sizes), 1), 1.0)
        generator = np.random.default_rng(shard)
        # Of each section, where in this server's part of it.
        self._sample = [
            np.sort(
                generator.choice(
                    size, math.ceil(share * size), replace=False, shuffle=False
                )
            )
            for size in sizes
        ]
        self._resolution = max(
            (
                float(np.spacing(np_dtype(section.dtype).type(1)))
                for section in layout.sections
                if section.role == PARAMETERS
            ),
            default=0.0,
        )
        self._newest: _Version | None = None
        self._given = SentPoints[_Version]()
        self._count = 0
        # Pushes of which the median was not taken yet.
        self._seen: collections.deque[tuple[int, int, _Version, np.ndarray]] = (
            collections.deque(maxlen=_READINGS_KEPT)
        )
        self._reading = threading.Lock()
        self._readings: collections.deque[Reading] = collections.deque(
            maxlen=_READINGS_KEPT
        )

    def give(
        self, worker: int, version: int, center: Sequence[np.ndarray]
    ) -> None:
        """Notes that a worker goes on from a version.

        Args:
            worker: its index.
            version: of the center.
            center: the values of this version, one array for each section.
        """
        newest = self._newest
        if newest is None or newest.number != version:
            newest = self._newest = _Version(version, self._sampled(center))
        self._given.note(worker, version, newest)

    def take(
        self,
        worker: int,
        version_read: int,
        version: int,
        center: Sequence[np.ndarray],
        gradients: Sequence[np.ndarray],
        rates: Rates,
    ) -> None:
        """Notes a push, after the center has moved by it.

        Args:
            worker: whose.
            version_read: at which the gradients were taken.
            version: of the center, after the push.
            center: its values then.
            gradients: as they were pushed.
            rates: by which the center has moved.
        """
        values = self._sampled(center)
        last, self._newest = self._newest, _Version(version, values)
        if last is not None and last.number == version - 1:
            last.after, last.rates = values, rates
            self._newest.before = last.center
        at = self._given.at(worker, version_read)
        if at is None or at.before is None or at.after is None:
            return
        self._count += 1
        self._seen.append((self._count, worker, at, self._sampled(gradients)))

    def forget(self, worker: int) -> None:
        """Forgets where a worker was, whose slot was taken back."""
        self._given.forget(worker)

    def readings(self) -> list[Reading]:
        """The newest readings, in the order of their pushes.

        It takes milliseconds, and may be called while others push.
        """
        with self._reading:
            while self._seen:
                number, worker, at, gradient = self._seen.popleft()
                centers = (at.before, at.center, at.after)
                rates = at.rates or {}
                total = momentum_control.total_momentum(
                    [a for a in centers if a is not None],
                    [gradient],
                    [rates["learning_rate"]],
                    self._resolution,
                )
                if total is not None:
                    self._readings.append(
                        Reading(number, worker, float(rates["momentum"]), total)
                    )
            return list(self._readings)

    def _sampled(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(
            [
                array[chosen].astype(np.float64)
                for array, chosen in zip(arrays, self._sample, strict=True)
            ]
        )
