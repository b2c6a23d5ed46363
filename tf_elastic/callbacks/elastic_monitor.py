"""The callback that measures an elastic run while it goes."""

import contextlib
import os
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
from numpy.typing import ArrayLike

from tf_elastic.cluster import watch
from tf_elastic.monitor import event_file
from tf_elastic.monitor import probe
from tf_elastic.monitor.event_file import EventFile
from tf_elastic.monitor.run_clock import VALIDATION
from tf_elastic.monitor.run_clock import Logs
from tf_elastic.monitor.run_clock import RunClock
from tf_elastic.monitor.run_report import RunTimes
from tf_elastic.monitor.step_clock import StepClock

if TYPE_CHECKING:
    import tensorflow as tf


class ElasticMonitor(keras.callbacks.Callback):
    """Names worker loss and center loss apart, and measures the rest.

    At the end of an epoch it adds to `logs`, so that `History`, `CSVLogger`
    and the progress bar have them:

    - `worker_loss`: Keras' `loss`, the mean over the workers, each on its own
      parameters and data, and over the epoch;
    - `center_loss`, `center_<metric>`: of the center at the end of the
      epoch, on `center_data`, else on the validation data;
    - `center_step`: the exchanges so far;
    - `elastic_distance`: |x^i - center|, the mean over the workers;
    - `learning_rate`; of a `MultiOptimizer` `learning_rate/<name>` of each;
    - `data_s`, `compute_s`, `exchange_s`: seconds of the epoch's steps. Steps
      whose graph was traced are not counted.

    Under a strategy that is not elastic the model itself is the center, and
    what only elastic training has is left out.

    With `log_dir` it writes for TensorBoard, over local steps: `center/loss`
    and `center/<metric>`, `worker/loss` and `worker/<metric>`,
    `elastic_distance/worker_<i>`, `center/step`, `learning_rate`,
    `time/data_s`, `time/compute_s`, `time/exchange_s` (since the point
    before), `throughput/images_per_s` and `throughput/steps_per_s` (over all
    the time since the point before, that of validation too);
    `validation/loss` and `validation/<metric>` if `fit` validates. In a
    virtual cluster also `virtual/virtual_seconds` and so on, over the local
    steps of all workers together.

    Under `ElasticMultiWorkerStrategy` each worker with this callback tells
    the others its loss and counts, and the one with `log_dir` (the chief)
    writes of all of them `worker_<i>/loss`, `worker_<i>/steps_per_s`,
    `worker_<i>/samples_per_s`, `worker_<i>/distance`,
    `worker_<i>/bytes_sent`, `worker_<i>/wait_s` and so on, the histograms
    `staleness/versions` and `staleness/ms`, and `cluster/num_workers`.

    Training does not depend on this callback. Callbacks see the new names if
    they come after it in the list; those that Keras adds do.

    Args:
        center_data: what to evaluate the center on: a `tf.data.Dataset`, or
            arrays `(x, y)`; some training images without augmentation, say.
            None takes the center's loss from the validation.
        center_steps: how many batches of `center_data`; None for all.
        log_dir: folder for TensorBoard, or None.
        update_freq: "epoch", or an integer n: then what concerns the workers
            is also written every n batches (with `steps_per_execution` at
            the first chance after). `worker/...` is then the mean since the
            epoch's begin, as everywhere in Keras; `center/...` stays at the
            end of the epoch.
        global_batch_size: images in one step of all workers, for
            `throughput/images_per_s`; None leaves that out.
        run_clock: is told where the time of the steps goes; see `RunClock`.

    Raises:
        ValueError: `update_freq` or `global_batch_size` is out of range.
        ImportError: `log_dir` is given and `tensorboard` is not installed.

    Example:

    ```python
    model.fit(
        train,
        validation_data=test,
        callbacks=[te.callbacks.ElasticMonitor(log_dir="runs/first")],
    )
    ```

    If `elastic_distance` keeps growing, the workers drift apart: raise the
    moving rate or lower `communication_period`. If `time/data_s` is not
    small beside `time/compute_s`, the input pipeline holds up the training.
    """

    def __init__(
        self,
        center_data: "tf.data.Dataset | Sequence[ArrayLike] | None" = None,
        center_steps: int | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        update_freq: str | int = "epoch",
        global_batch_size: int | None = None,
        run_clock: RunClock | None = None,
    ) -> None:
        super().__init__()
        if update_freq != "epoch":
            _check_positive("update_freq", update_freq, '"epoch"')
        if global_batch_size is not None:
            _check_positive("global_batch_size", global_batch_size, "None")
        if center_steps is not None:
            _check_positive("center_steps", center_steps, "None")
        if log_dir:
            event_file.check_can_write(log_dir)
        self.center_data = center_data
        self.center_steps = center_steps
        self.log_dir = log_dir
        self.update_freq = update_freq
        self.global_batch_size = global_batch_size
        self.run_clock = run_clock
        self._clock: StepClock | None = None
        self._writer: EventFile | None = None
        self._at_begin = self._at_epoch = self._at_write = RunTimes(0, 0.0)
        self._batches_of_epoch = 0
        self._batches_since_write = 0
        self._steps_s = 0.0  # of the run, before the epoch
        self._steps = self._steps_written = 0
        self._written_at = 0.0
        self._watch: watch.ClusterWatch | None = None

    @property
    def times(self) -> RunTimes:
        """The times of the steps since the last `fit` began."""
        if self._clock is None:
            return RunTimes(0, 0.0)
        return self._clock.read().since(self._at_begin)

    # What Keras calls.

    def on_train_begin(self, logs: Logs = None) -> None:
        """Starts the clocks."""
        clock = self._clock = StepClock(self.model.distribute_strategy)
        self._at_begin = self._at_epoch = self._at_write = clock.read()
        self._batches_since_write = 0
        self._steps_written = self._steps
        self._written_at = time.perf_counter()
        strategy = self.model.distribute_strategy
        if hasattr(strategy, "center_status"):
            self._watch = watch.ClusterWatch(strategy.center_status)
        if self.log_dir:
            self._writer = EventFile(self.log_dir)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Starts the clock of the epoch."""
        self._batches_of_epoch = 0
        self._at_epoch = self._running_clock().read()
        if self.run_clock:
            self._steps_s = self.run_clock.steps_s

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Marks where a step begins."""
        self._running_clock().begin()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Counts steps, and writes every `update_freq` of them.

        Args:
            batch: index of the last step taken, within the epoch.
            logs: means since the epoch's begin.
        """
        steps = batch + 1 - self._batches_of_epoch
        self._batches_of_epoch = batch + 1
        self._steps += steps
        self._running_clock().end(steps)
        self._tell_others((logs or {}).get("loss"))
        if isinstance(self.update_freq, str):  # "epoch"
            return
        self._batches_since_write += steps
        if self._batches_since_write >= self.update_freq:
            self._batches_since_write %= self.update_freq
            self._write(self._worker_scalars(logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Evaluates the center, adds to `logs`, and writes.

        Args:
            epoch: index of the epoch.
            logs: gets the new names.
        """
        logs = {} if logs is None else logs
        times = self._running_clock().read().since(self._at_epoch)
        evaluating: contextlib.AbstractContextManager[None] = (
            contextlib.nullcontext()
        )
        if self.run_clock:
            clock = self.run_clock
            clock.calls_took(
                self._batches_of_epoch, clock.steps_s - self._steps_s, times
            )
            evaluating = clock.during(VALIDATION)
        with evaluating:
            center = self._evaluate_center(logs)
        scalars = {
            **(self._worker_scalars(logs) if self._writer else {}),
            **{f"center/{name}": value for name, value in center.items()},
            **{
                f"validation/{name.removeprefix('val_')}": value
                for name, value in logs.items()
                if name.startswith("val_")
            },
        }
        self._write(scalars)
        if "loss" in logs:
            logs["worker_loss"] = logs["loss"]
        logs.update({f"center_{name}": v for name, v in center.items()})
        distances = probe.elastic_distances(self.model)
        step = probe.center_step(self.model)
        if distances is not None and step is not None:
            logs["center_step"] = step
            logs["elastic_distance"] = float(distances.mean())
        logs.update(probe.learning_rates(self.model))
        logs.update(times.split())

    def on_train_end(self, logs: Logs = None) -> None:
        """Closes the file for TensorBoard."""
        if self._writer:
            self._writer.close()
            self._writer = None

    # What is measured.

    def _running_clock(self) -> StepClock:
        if self._clock is None:
            raise RuntimeError(
                "`ElasticMonitor` measures while `fit` runs. Received: a call "
                "before `on_train_begin`. Give it to `fit` as a callback."
            )
        return self._clock

    def _tell_others(self, loss: float | None) -> None:
        """In a cluster, lets the chief know how this worker is doing."""
        if self._watch is None:
            return
        client = self.model.distribute_strategy.extended.client
        times = self._running_clock().read()
        client.notes = {
            **watch.notes_of(client.counts, client, loss),
            **times.split(),
        }
        if times.total_s > 0:
            share = client.counts.wait_s / times.total_s
            client.notes["wait_share"] = min(share, 1.0)

    def _evaluate_center(self, logs: dict[str, float]) -> dict[str, float]:
        """The center's loss and metrics, by their own names.

        Keras has read its metrics for this epoch by now, and resets them
        before the next: an evaluation in between disturbs nothing.
        """
        if self.center_data is None:
            return {
                name.removeprefix("val_"): value
                for name, value in logs.items()
                if name.startswith("val_")
            }
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
            self.center_data
        )
        values: dict[str, float] = self.model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            steps=self.center_steps,
            verbose=0,
            return_dict=True,
        )
        return values

    def _worker_scalars(self, logs: dict[str, float]) -> dict[str, float]:
        """All tags but the evaluation's, since they were last written."""
        now = self._running_clock().read()
        times, self._at_write = now.since(self._at_write), now
        steps, self._steps_written = (
            self._steps - self._steps_written,
            (self._steps),
        )
        moment = time.perf_counter()
        passed, self._written_at = moment - self._written_at, moment
        scalars = {
            f"worker/{name}": value
            for name, value in logs.items()
            if not (name.startswith("val_") or name in probe.VIRTUAL)
        }
        for name, value in probe.virtual(self.model).items():
            scalars[f"virtual/{name}"] = value
        distances = probe.elastic_distances(self.model)
        step = probe.center_step(self.model)
        if distances is not None and step is not None:
            for i, distance in enumerate(distances):
                scalars[f"elastic_distance/worker_{i}"] = distance
            scalars["center/step"] = step
        scalars.update(probe.learning_rates(self.model))
        if times.steps:
            for name, seconds in times.split().items():
                scalars[f"time/{name}"] = seconds
        if steps and passed > 0:
            scalars["throughput/steps_per_s"] = steps / passed
            if self.global_batch_size:
                scalars["throughput/images_per_s"] = (
                    steps * self.global_batch_size / passed
                )
        return scalars

    def _write(self, scalars: Mapping[str, float | None]) -> None:
        if not self._writer:
            return
        step = probe.local_steps(self.model)
        view = self._watch.view() if self._watch else None
        if view is not None:
            scalars = {**scalars, **watch.scalars(view)}
        histograms = {}
        if view is not None and view.staleness.ms.size:
            histograms = {
                "staleness/versions": view.staleness.versions,
                "staleness/ms": view.staleness.ms,
            }
        self._writer.write(step, scalars, histograms)


def _check_positive(name: str, value: object, otherwise: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{name}` must be an integer >= 1, or {otherwise}. "
            f"Received: {name}={value!r}."
        )
