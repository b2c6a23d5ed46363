"""The side-car that evaluates the center of a cluster, and keeps the best."""

import os
import time
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_elastic.monitor import probe


class Evaluation(NamedTuple):
    """One look at the center."""

    version: int  # of the first center server
    values: dict[str, float]  # loss and metrics
    is_best: bool  # of all so far


class CenterEvaluator:
    """Evaluates the center while workers train, without touching them.

    For the process of the job `evaluator`. It pulls the center, evaluates it,
    writes for TensorBoard and keeps the best model, until all workers are
    done.

    Args:
        model: compiled with an optimizer of this package in the scope of an
            `ElasticMultiWorkerStrategy` of an evaluator.
        data: what to evaluate on: a `tf.data.Dataset`, or arrays `(x, y)`.
        log_dir: folder for TensorBoard (over the center's versions), or None.
        best_path: file for the best model, ending in .keras, or None.
        monitor: the name of the loss or metric that decides which is best.
        mode: "min" or "max"; None for "max" if it is an accuracy, else "min".
        patience_s: how long the center may be away, or no worker be there,
            in seconds, before this ends.
        poll_s: seconds between two looks for a new version.

    Raises:
        ValueError: `mode` is unknown, or the strategy has no center.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Any,
        log_dir: str | os.PathLike | None = None,
        best_path: str | os.PathLike | None = None,
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
        self.model = model
        self.data = data
        self.log_dir = log_dir
        self.best_path = best_path
        self.monitor = monitor
        self.mode = mode or ("max" if "acc" in monitor else "min")
        self.patience_s = patience_s
        self.poll_s = poll_s
        self.best: float | None = None

    def run(self) -> list[Evaluation]:
        """Evaluates until all workers are done.

        Returns:
            All evaluations.
        """
        return list(self.evaluations())

    def evaluations(self) -> Iterator[Evaluation]:
        """Yields each evaluation, until all workers are done."""
        strategy = self.model.distribute_strategy
        with strategy.scope():
            optimizer = probe.training_optimizer(self.model)
            optimizer.build(self.model.trainable_variables)
        writer = None
        if self.log_dir:
            writer = tf.summary.create_file_writer(os.fspath(self.log_dir))
        seen, alone_since = -1, time.monotonic()
        while True:
            first = strategy.center_status()[0]
            ready = first is not None and first["ready"]
            present = ready and any(
                member["present"] for member in first["members"].values()
            )
            if present:
                alone_since = time.monotonic()
            version = first["version"] if ready else seen
            if version != seen:
                seen = version
                yield self._evaluate(version, writer)
                continue
            if ready and not present and first["members"]:
                if all(m["finished"] for m in first["members"].values()):
                    break
            if time.monotonic() - alone_since > self.patience_s:
                break
            time.sleep(self.poll_s)
        if writer:
            writer.close()

    def _evaluate(self, version: int, writer: Any) -> Evaluation:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.data)
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
        sign = 1 if self.mode == "min" else -1
        is_best = self.best is None or sign * value < sign * self.best
        if is_best:
            self.best = value
            if self.best_path:
                self._save()
        if writer:
            with tf.device("CPU:0"), writer.as_default(version):
                for name, value in values.items():
                    tf.summary.scalar(f"evaluator/{name}", value)
                writer.flush()
        return Evaluation(version, values, is_best)

    def _save(self) -> None:
        """Writes the best model whole, or not at all."""
        path = os.fspath(self.best_path)
        base, ending = os.path.splitext(path)
        self.model.save(f"{base}.tmp{ending}")
        os.replace(f"{base}.tmp{ending}", path)
