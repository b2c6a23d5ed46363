"""The timing of a virtual cluster that goes as a real one went."""

import itertools
import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.virtual.durations import Constant
from tf_elastic.timeline.virtual.durations import Duration
from tf_elastic.timeline.virtual.durations import LogNormal
from tf_elastic.timeline.virtual.record import Message
from tf_elastic.timeline.virtual.record import Record
from tf_elastic.timeline.virtual.timing import Timing

# Of each worker. In the first ones graphs are traced.
LEAST = 20
SKIPPED = 2
# By more than this the workers' means have to differ, and by more than so many
# standard errors, to have laws of their own.
_UNEVEN, _ERRORS = 0.1, 3.0
_CONSTANT = 1e-6  # of logarithms
# By this factor periods have to differ to tell what an exchange takes.
_OTHER_PERIOD = 1.5


def calibrate(found: Sequence[Event], *others: Sequence[Event]) -> Timing:
    """Fits a timing to the log of a real run, or to those of several.

    Steps are log-normal, with the mean and the spread that the periods between
    exchanges have; of each worker on its own where their means differ by more
    than a tenth. What a message takes is split into the service of the center,
    which is no longer than the shortest time between the messages of two
    workers, and into two latencies, log-normal likewise. Data that is loaded
    and bytes that travel are among these: the timing is of the same model,
    data and machines. Deaths and pauses are left out.

    What an exchange takes of its worker's own processor, `Timing.overhead`, is
    among the steps of one period's log. Logs of two periods tell it: the time
    between exchanges is then a line over the steps in it. A log of overlapped
    exchanges beside them tells `Timing.overlapped_overhead`, which is large
    where processes share cores.

    Args:
        found: the events of all processes, see `event_file.read`, of one
            center server.
        *others: those of other runs of the same model, data and machines.

    Raises:
        ValueError: a worker has exchanged too seldom, a log is not whole
            (see `RecordedTimeline`), or the logs are not of the same model,
            rule and number of workers.
    """
    logs = [_Log.of(each) for each in (found, *others)]
    _check_alike(logs)
    overheads = _overheads(logs)
    steps = [
        _Fit.of([step for each in own for step in each])
        for own in zip(
            *(log.without(overheads[log.is_overlapped]) for log in logs),
            strict=True,
        )
    ]
    # Beside steps that go on a message takes longer.
    waited = [log for log in logs if not log.is_overlapped] or logs
    trips = [trip for log in waited for trip in log.trips]
    shortest = min(seconds / count for count, seconds in trips)
    service = min(*(log.shortest_gap for log in waited), shortest / 2)
    latency = _Fit.of(
        [(2 * count, seconds - count * service) for count, seconds in trips]
    )
    both_known = {log.is_overlapped for log in logs} == {False, True}
    return Timing(
        step=_of_workers(steps),
        latency=latency.law(),
        service=service,
        overhead=overheads[False],
        overlapped_overhead=overheads[True] if both_known else None,
    )


class _Log(NamedTuple):
    """What is taken from one log."""

    settings: dict[str, Any]
    # Of each worker and period: its steps, and their seconds.
    periods: list[list[tuple[int, float]]]
    trips: list[tuple[int, float]]  # see `_trips`
    shortest_gap: float

    @classmethod
    def of(cls, found: Sequence[Event]) -> "_Log":
        record = Record(found)
        workers = [
            _settled(list(own.messages.values()))
            for _, own in sorted(record.workers.items())
        ]
        for worker, messages in enumerate(workers):
            if len(messages) < LEAST:
                raise ValueError(
                    f"A timing can be fitted to {SKIPPED + LEAST} exchanges "
                    f"of each worker, of which the first {SKIPPED} are left "
                    f"out. Received: {len(messages) + SKIPPED} of worker "
                    f"{worker}. Train for longer, or exchange more often."
                )
        protocol = str(record.settings["protocol"])
        return cls(
            record.settings,
            [_steps(messages, protocol) for messages in workers],
            [
                trip
                for messages in workers
                for trip in _trips(record, messages, protocol)
            ],
            _shortest_gap(workers),
        )

    @property
    def is_overlapped(self) -> bool:
        return bool(self.settings["protocol"] == "overlapped")

    @property
    def mean_period(self) -> tuple[float, float]:
        """Steps, and their seconds."""
        every = np.array([each for own in self.periods for each in own])
        steps, seconds = every.mean(0)
        return float(steps), float(seconds)

    def without(self, overhead: float) -> list[list[tuple[int, float]]]:
        """The periods, without what is no step; half is one at least."""
        return [
            [(n, max(seconds - overhead, seconds / 2)) for n, seconds in own]
            for own in self.periods
        ]


def _check_alike(logs: Sequence[_Log]) -> None:
    first = logs[0]
    for log in logs[1:]:
        for name in ("model", "rule"):
            if log.settings[name] != first.settings[name]:
                raise ValueError(
                    f"Logs that a timing is fitted to must have the same "
                    f"{name}. Received: {first.settings[name]!r:.80} and "
                    f"{log.settings[name]!r:.80}."
                )
        if len(log.periods) != len(first.periods):
            raise ValueError(
                "Logs that a timing is fitted to must have as many workers. "
                f"Received: {len(first.periods)} and {len(log.periods)}."
            )


def _overheads(logs: Sequence[_Log]) -> tuple[float, float]:
    """Seconds of an exchange that is waited for, and of an overlapped one."""
    waited = [log for log in logs if not log.is_overlapped]
    step, overhead = _line([log.mean_period for log in waited or logs])
    over = [
        seconds - count * step
        for count, seconds in (
            log.mean_period for log in logs if log.is_overlapped
        )
    ]
    if not waited or not over:
        return overhead, overhead
    return overhead, max(float(np.mean(over)), 0.0)


def _line(periods: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and offset of seconds over steps, none below 0.

    The relative errors are made small. Where all periods are nearly as long
    there is no offset.
    """
    counts, seconds = np.array(periods).T
    of_one = float(seconds.sum() / counts.sum())
    if counts.max() < _OTHER_PERIOD * counts.min():
        return of_one, 0.0
    lines = np.stack([counts, np.ones_like(counts)], 1) / seconds[:, None]
    (slope, offset), *_ = np.linalg.lstsq(
        lines, np.ones_like(seconds), rcond=None
    )
    if offset < 0 or slope <= 0:
        return of_one, 0.0
    return float(slope), float(offset)


class _Fit(NamedTuple):
    """A log-normal law."""

    mean: float
    sigma: float  # of the logarithm
    error: float = 0.0  # of the mean, standard

    @classmethod
    def of(cls, sums: Sequence[tuple[int, float]]) -> "_Fit":
        """Of independent seconds of which sums are known.

        The mean is theirs. The spread is that of the logarithms, so that a
        few that are very long, as of a machine that did something else, do not
        make the law.

        Args:
            sums: (how many, their sum), above 0.
        """
        counts, seconds = np.array(sums, np.float64).T
        mean = float(seconds.sum() / counts.sum())
        logs = np.log(seconds / counts)
        # As of one, were they independent and not much unlike.
        variance = float((counts * (logs - logs.mean()) ** 2).mean())
        count = float(counts.mean())
        sigma = math.sqrt(math.log1p(count * math.expm1(variance / count)))
        error = mean * math.sqrt(math.expm1(sigma**2) / counts.sum())
        return cls(mean, sigma, error)

    def law(self) -> Duration:
        """As a duration."""
        if self.sigma < _CONSTANT:
            return Constant(self.mean)
        return LogNormal(self.mean, self.sigma)


def _settled(messages: list[Message]) -> list[Message]:
    """Those that were answered and followed, without the first ones."""
    followed = [
        message
        for message in messages
        if message.settled is not None
        and message.answered is not None
        and message.arrived is not None
        and not (message.is_late or message.is_missed)
    ]
    followed.sort(key=lambda message: message.number)
    return followed[SKIPPED:]


def _steps(messages: list[Message], protocol: str) -> list[tuple[int, float]]:
    """Of each period the steps, and their seconds."""
    found = []
    for before, after in itertools.pairwise(messages):
        if before.settled is None or after.settled is None:
            continue
        begin = before.settled.event
        if before.number[0] != after.number[0]:
            continue  # Another life.
        if protocol == "overlapped":
            end = after.settled.event.time - after.settled.wait_s
            count = after.settled.number("step_applied")
        else:
            end = _left_at(after)
            count = after.step
        count -= before.settled.number("step_applied")
        if count > 0 and end > begin.time:
            found.append((count, end - begin.time))
    return found


def _left_at(message: Message) -> float:
    """When a worker that waits began to."""
    told = message.settled
    if told is None or not told.wait_s:
        return message.left_at
    return min(message.left_at, told.event.time - told.wait_s)


def _trips(
    record: Record, messages: list[Message], protocol: str
) -> list[tuple[int, float]]:
    """Of each exchange its messages, and the seconds until all was there."""
    ends = {
        line.number("version_applied"): line.event.time
        for line in record.rounds
    }
    found = []
    for message in messages:
        answered, arrived = message.answered, message.arrived
        if answered is None or arrived is None or message.settled is None:
            continue
        seconds = answered.event.seconds or 0.0
        if protocol != "overlapped":
            seconds = max(seconds, message.settled.wait_s)
        if arrived.event.call == events.DEPOSIT:
            # Without what it has waited for the others.
            version = arrived.number("version_applied")
            end = ends.get(version, arrived.event.time)
            seconds -= end - arrived.event.time
        # A difference is read first.
        is_read = arrived.event.call == events.PUSH
        if seconds > 0:
            found.append((1 + is_read, seconds))
    return found


def _shortest_gap(workers: Sequence[list[Message]]) -> float:
    """How long the center takes for a message, at most.

    The shortest time between the messages of two workers, without what it
    would be if they were served in no time.
    """
    arrived = sorted(
        (message.arrived.event.time, worker)
        for worker, messages in enumerate(workers)
        for message in messages
        if message.arrived is not None
    )
    gaps = [
        after - before
        for (before, one), (after, other) in itertools.pairwise(arrived)
        if one != other
    ]
    if not gaps:
        return 0.0
    return max(min(gaps) - float(np.mean(gaps)) / len(gaps), 0.0)


def _of_workers(fits: Sequence[_Fit]) -> Duration | list[Duration]:
    """One law for all, or one for each if they differ."""
    means = [fit.mean for fit in fits]
    spread, error = max(means) - min(means), max(fit.error for fit in fits)
    if spread > max(_UNEVEN * min(means), _ERRORS * math.sqrt(2) * error):
        return [fit.law() for fit in fits]
    return _Fit(
        float(np.mean(means)), float(np.mean([fit.sigma for fit in fits]))
    ).law()
