"""The side-car that evaluates the center of a cluster, and keeps the best."""

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import NamedTuple

import keras
from absl import logging
from numpy.typing import ArrayLike

from tf_elastic import files
from tf_elastic.cluster import watch
from tf_elastic.monitor import event_file
from tf_elastic.monitor import probe
from tf_elastic.monitor.event_file import EventFile

if TYPE_CHECKING:
    import tensorflow as tf


class Evaluation(NamedTuple):
    """One look at the center."""

    version: int  # of the first center server
    values: dict[str, float]  # loss and metrics
    is_best: bool  # of all so far


class CenterEvaluator:
    """Evaluates the center while workers train, without touching them.

    For the process of the job `evaluator`. It pulls the center, evaluates it,
    writes for TensorBoard and keeps the best model, until all workers are
    done. With `best_path` of an earlier run it goes on from the best so far,
    which is noted beside it in a file of that name ending in .json.

    Args:
        model: compiled with an optimizer of this package in the scope of an
            `ElasticMultiWorkerStrategy` of an evaluator.
        data: what to evaluate on: a `tf.data.Dataset`, or arrays `(x, y)`.
        log_dir: folder for TensorBoard (over the center's versions), or None.
        best_path: file for the best model, ending in .keras, or None; its
            folder is made.
        monitor: the name of the loss or metric that decides which is best.
        mode: "min" or "max"; None for "max" if it is an accuracy, else "min".
        patience_s: how long the center may be away, or no worker be there,
            in seconds, before this ends; also if it comes after all are done.
        poll_s: seconds between two looks for a new version.

    Raises:
        ValueError: `mode` is unknown, or the strategy has no center.
        ImportError: `log_dir` is given and `tensorboard` is not installed.
    """

    def __init__(
        self,
        model: keras.Model,
        data: "tf.data.Dataset | Sequence[ArrayLike]",
        log_dir: str | os.PathLike[str] | None = None,
        best_path: str | os.PathLike[str] | None = None,
        monitor: str = "loss",
        mode: str | None = None,
        patience_s: float = 120.0,
        poll_s: float = 1.0,
    ) -> None:
        if mode not in (None, "min", "max"):
            raise ValueError(
                f"`mode` must be 'min', 'max' or None. Received: mode={mode!r}."
            )
        strategy = model.distribute_strategy
        if not hasattr(strategy, "center_status"):
            raise ValueError(
                "`model` must be built in the scope of an "
                "`ElasticMultiWorkerStrategy`. Received: a model under "
                f"{type(strategy).__name__}, which has no center elsewhere."
            )
        if log_dir:
            event_file.check_can_write(log_dir)
        self.model = model
        self.data = data
        self.log_dir = log_dir
        self.best_path = best_path
        self.monitor = monitor
        self.mode = mode or ("max" if "acc" in monitor else "min")
        self.patience_s = patience_s
        self.poll_s = poll_s
        self.best = self._best_so_far()
        self._stopped = threading.Event()

    def run(self) -> list[Evaluation]:
        """Evaluates until all workers are done.

        Returns:
            All evaluations.
        """
        return list(self.evaluations())

    def stop(self) -> None:
        """Ends `evaluations` after one last look; for a signal's handler."""
        self._stopped.set()

    def evaluations(self) -> Iterator[Evaluation]:
        """Yields each evaluation, until all workers are done."""
        strategy = self.model.distribute_strategy
        with strategy.scope():
            optimizer = probe.training_optimizer(self.model)
            optimizer.build(self.model.trainable_variables)
        writer = None
        if self.log_dir:
            writer = EventFile(self.log_dir)
        seen, met, alone_since = -1, False, time.monotonic()
        while True:
            is_last = self._stopped.is_set()
            version, below = _look(strategy)
            if below == watch.THERE:
                met, alone_since = True, time.monotonic()
            if version is not None and version != seen:
                seen = version
                yield self._evaluate(version, writer)
                if not is_last:
                    continue
            # Before it has met any, they are those of the run before.
            all_done = met and below == watch.FINISHED
            alone_s = time.monotonic() - alone_since
            if is_last or all_done or alone_s > self.patience_s:
                break
            self._stopped.wait(self.poll_s)
        if writer:
            writer.close()

    def _evaluate(self, version: int, writer: EventFile | None) -> Evaluation:
        extended = self.model.distribute_strategy.extended
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.data)
        with extended.holding_center():  # What is saved is what was measured.
            values = self.model.evaluate(
                x, y, sample_weight=sample_weight, verbose=0, return_dict=True
            )
            values = {name: float(value) for name, value in values.items()}
            if self.monitor not in values:
                raise ValueError(
                    f"`monitor` must be one of {sorted(values)}. Received: "
                    f"monitor={self.monitor!r}."
                )
            value = values[self.monitor]
            is_best = self._is_better(value)
            if is_best and self._save(version, values):
                self.best = value
        if writer:
            writer.write(
                version, {f"evaluator/{k}": v for k, v in values.items()}
            )
        return Evaluation(version, values, is_best)

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        sign = 1 if self.mode == "min" else -1
        return self.best is None or sign * value < sign * self.best

    def _save(self, version: int, values: dict[str, float]) -> bool:
        """Writes the best model if it is to; whether that went well."""
        if not self.best_path:
            return True
        base, _ = os.path.splitext(os.fspath(self.best_path))
        try:
            with files.whole(self.best_path) as partial:
                self.model.save(partial)
            files.write_text(
                f"{base}.json",
                json.dumps({"version": version, "values": values}),
            )
        except files.FileNotWrittenError as error:
            logging.error(
                "%s The next evaluation that is better than the best one "
                "there tries again.",
                error,
            )
            return False
        return True

    def _best_so_far(self) -> float | None:
        """The value of the best model of an earlier run; None without one."""
        if not self.best_path or not os.path.exists(self.best_path):
            return None
        base, _ = os.path.splitext(os.fspath(self.best_path))
        try:
            with open(f"{base}.json", encoding="utf-8") as file:
                return float(json.load(file)["values"][self.monitor])
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
        ) as error:
            logging.warning(
                "What %s is worth cannot be read (%r): the next evaluation "
                "replaces it.",
                self.best_path,
                error,
            )
            return None


def _look(
    strategy: "tf.distribute.Strategy",
) -> tuple[int | None, str]:
    """The center's version, None if it cannot be read; how its workers are."""
    statuses = strategy.center_status()
    there = [status for status in statuses if status is not None]
    if not there:
        return None, watch.GONE
    readable = all(status and status["ready"] for status in statuses)
    first, *others = (status[watch.BELOW] for status in there)
    # Each has to have all that its workers have sent.
    below = watch.THERE if watch.THERE in others else first
    return (there[0]["version"] if readable else None), below
