"""What every second of a run went to."""

import contextlib
import time
from collections.abc import Iterator
from collections.abc import Sequence

import keras

from tf_elastic.monitor.run_report import RunTimes

# What Keras tells its callbacks: values by name.
Logs = dict[str, float] | None

START = "start"  # importing, building, reading data
STEPS = "steps"  # the calls of the train function
VALIDATION = "validation"  # evaluation, of the test set too, and its tracing
CALLBACKS = "callbacks"
SAVING = "saving"
BETWEEN = "between"  # steps and epochs: all that is nothing of the above


class RunClock:
    """A stopwatch: at any time one part of a run is going on.

    So the parts add up to the whole. `ElasticMonitor(run_clock=...)` tells
    the steps apart; `around` tells what Keras does.

    Args:
        began: `time.perf_counter()` at the run's begin; None for now.

    Example:

    >>> clock = RunClock()
    >>> with clock.during("saving"):
    ...     pass
    >>> parts = clock.parts(RunTimes(0, 0.0))
    >>> round(sum(parts.values()) - clock.wall_s, 9)
    0.0
    """

    def __init__(self, began: float | None = None) -> None:
        self._began = time.perf_counter() if began is None else began
        self._since = self._began
        self._part = START
        self._seconds = dict.fromkeys(
            (START, STEPS, VALIDATION, CALLBACKS, SAVING, BETWEEN), 0.0
        )
        # Of the calls: in which something was traced, and around the steps.
        self._tracing_s = self._calling_s = 0.0
        self.steps = 0  # local steps of each worker, traced ones too

    def switch(self, part: str) -> str:
        """From now on it is this part; returns what it was."""
        now = time.perf_counter()
        self._seconds[self._part] += now - self._since
        self._since = now
        before, self._part = self._part, part
        return before

    @contextlib.contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Inside, it is this part."""
        before = self.switch(part)
        try:
            yield
        finally:
            self.switch(before)

    @property
    def wall_s(self) -> float:
        """Seconds of all parts so far."""
        self.switch(self._part)
        return self._since - self._began

    @property
    def steps_s(self) -> float:
        """Seconds in calls of the train function so far."""
        return self._seconds[STEPS]

    def calls_took(self, steps: int, seconds: float, times: RunTimes) -> None:
        """Tells of some calls of the train function, an epoch's, say.

        Args:
            steps: that they took.
            seconds: that they lasted.
            times: of those steps that were timed.
        """
        self.steps += steps
        rest = max(seconds - times.total_s, 0.0)
        if times.steps < steps:  # The others were traced.
            self._tracing_s += rest
        else:
            self._calling_s += rest

    def parts(self, times: RunTimes) -> dict[str, float]:
        """Seconds of each part; they add up to `wall_s` as it was just now.

        Args:
            times: of all steps that were timed.
        """
        self.switch(self._part)
        in_steps = times.split() or {"compute_s": times.total_s}
        known = {
            "start_s": self._seconds[START],
            "tracing_s": self._tracing_s,
            **in_steps,
            "validation_s": self._seconds[VALIDATION],
            "callbacks_s": self._seconds[CALLBACKS],
            "saving_s": self._seconds[SAVING],
        }
        wall_s = self._since - self._began
        return {**known, "between_s": wall_s - sum(known.values())}

    def around(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        """The callbacks of a `fit`, with those that tell Keras' parts."""
        return [_Before(self), *callbacks, _After(self)]


class _Before(keras.callbacks.Callback):
    """The first one: callbacks begin, or validation."""

    def __init__(self, clock: RunClock) -> None:
        super().__init__()
        self._clock = clock

    def _begin(self, *_: object, **__: object) -> None:
        self._clock.switch(CALLBACKS)

    on_train_begin = on_train_end = _begin
    on_epoch_begin = on_epoch_end = _begin
    on_train_batch_begin = on_train_batch_end = _begin

    def on_test_begin(self, logs: Logs = None) -> None:
        self._clock.switch(VALIDATION)


class _After(keras.callbacks.Callback):
    """The last one: callbacks have ended, or validation."""

    def __init__(self, clock: RunClock) -> None:
        super().__init__()
        self._clock = clock

    def _end(self, *_: object, **__: object) -> None:
        self._clock.switch(BETWEEN)

    on_train_begin = on_train_end = _end
    on_epoch_begin = on_epoch_end = _end
    on_train_batch_end = on_test_end = _end

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._clock.switch(STEPS)
