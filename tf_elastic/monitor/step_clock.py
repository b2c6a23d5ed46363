"""How long steps took, under any strategy."""

import time
from typing import TYPE_CHECKING

from tf_elastic.monitor.run_report import RunTimes

if TYPE_CHECKING:
    import tensorflow as tf


class StepClock:
    """Reads a strategy's own clock, or times calls where it has none.

    An elastic strategy measures inside the graph and tells data, compute and
    exchange apart. For any other the calls of the train function are timed
    from outside, the first of each `fit` left out, since it is traced then.

    Args:
        strategy: any `tf.distribute.Strategy`.
    """

    def __init__(self, strategy: "tf.distribute.Strategy") -> None:
        self._strategy = strategy
        self._splits = hasattr(strategy, "step_times")
        self._is_first = True
        self._began_s = 0.0
        self._total_s = 0.0
        self._steps = 0

    def begin(self) -> None:
        """Called right before a train function runs."""
        if self._splits:
            self._strategy.mark_step_boundary()
        self._began_s = time.perf_counter()

    def end(self, steps: int) -> None:
        """Called right after a train function has run.

        Args:
            steps: how many local steps it took.
        """
        if not self._is_first:
            self._total_s += time.perf_counter() - self._began_s
            self._steps += steps
        self._is_first = False

    def read(self) -> RunTimes:
        """The times so far."""
        if not self._splits:
            return RunTimes(self._steps, self._total_s)
        times = self._strategy.step_times()
        return RunTimes(
            times.steps,
            times.data_s + times.compute_s + times.exchange_s,
            times.data_s,
            times.compute_s,
            times.exchange_s,
        )
