"""The callback that cuts the learning rate when the loss stagnates."""

import math
import os
from collections.abc import Sequence

import keras
from absl import logging

from tf_elastic.callbacks import cut_state
from tf_elastic.callbacks.cut_state import CutState
from tf_elastic.core import stagnation
from tf_elastic.monitor import probe
from tf_elastic.monitor.run_clock import Logs

EPOCH = "epoch"


class CutOnStagnation(keras.callbacks.Callback):
    """Divides the learning rate by 5, then by 2, when the loss stagnates.

    What the thesis does on ImageNet. What is watched is the online predictive
    loss: that of each minibatch before the step it leads to, which is Keras'
    `loss`, averaged over a window. The loss stagnates when it was not lower
    than its lowest for `patience` windows in a row, counted from the last cut:
    only losses of one rate are compared. When all cuts are done, nothing more
    is.

    An average with `average_from="first_cut"` begins at the first cut.

    Beside `keras.callbacks.ReduceLROnPlateau` it knows when it is done, can
    look within an epoch, and goes on after a break: with `state_file` in
    another process, else in another `fit` of this object. A `fit` from epoch
    0 begins anew.

    In a cluster the chief decides, by its own loss, and all workers take its
    rate with their next exchange; so all may be given this callback. A chief
    that is started again counts the cuts that the center knows of. Under
    `MultiWorkerMirroredStrategy` all see the same loss, and decide the same.

    It adds `learning_rate`, that of the epoch, to the `logs` of epochs.

    Args:
        cuts: what the rate is divided by, one after another, each above 1.
            Default (5, 2).
        monitor: what is watched, by its name in `logs`. Default "loss"; where
            layers have penalties on their weights, the name of a metric that
            is the loss without them.
        window: "epoch" (default), or an integer n: the mean over n batches,
            which may lie in two epochs. Then `monitor` has to be a mean over
            the epoch so far, as loss and metrics of `fit` are.
        patience: windows, an integer >= 1. Default 5.
        min_delta: how much lower is lower, >= 0. Default 1e-4.
        state_file: JSON file for what is known at the end of each epoch, to
            go on from with the weights of that epoch (`BackupAndRestore`,
            say). Default None.

    Raises:
        ValueError: an argument is out of its range; or, when training begins,
            the optimizer follows a schedule, or the file cannot be
            understood; or `monitor` is not in `logs`.

    Example:

    ```python
    optimizer = te.optimizers.EASGD(
        0.1, center_average="polyak", average_from="first_cut"
    )
    ...
    model.fit(data, callbacks=[te.callbacks.CutOnStagnation((5, 2))])
    ```

    If the rate is cut while the loss still falls, raise `patience` or the
    window; if it never is, raise `min_delta`.

    Reference:
        Zhang (2016), sections 4.2 and 4.3.1.
    """

    def __init__(
        self,
        cuts: Sequence[float] = stagnation.DEFAULT_CUTS,
        monitor: str = "loss",
        window: int | str = EPOCH,
        patience: int = stagnation.DEFAULT_PATIENCE,
        min_delta: float = 1e-4,
        state_file: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        stagnation.check_cuts(cuts)
        if window != EPOCH and not _is_count(window):
            raise ValueError(
                '`window` must be "epoch", or an integer >= 1, of batches. '
                f"Received: window={window!r}."
            )
        if not _is_count(patience):
            raise ValueError(
                "`patience` must be an integer >= 1, of windows. "
                f"Received: patience={patience!r}."
            )
        if not (_is_number(min_delta) and 0 <= min_delta < math.inf):
            raise ValueError(
                "`min_delta` must be a number, finite and at least 0. "
                f"Received: min_delta={min_delta!r}."
            )
        self.cuts = tuple(float(cut) for cut in cuts)
        self.monitor = monitor
        self.window = window
        self.patience = patience
        self.min_delta = min_delta
        self.state_file = state_file
        self._state = CutState()
        self._fit_begins = True
        self._first_batch: int | None = None
        # Of the epoch, as far as the window has it.
        self._batches, self._total = 0, 0.0

    # What Keras calls.

    def on_train_begin(self, logs: Logs = None) -> None:
        """Looks at what it is to cut."""
        for stepper in probe.steppers(self.model):
            rate = getattr(stepper, "_learning_rate", None)
            if isinstance(
                rate, keras.optimizers.schedules.LearningRateSchedule
            ):
                raise ValueError(
                    "`CutOnStagnation` sets the learning rate, which must be "
                    "a number. Received: an optimizer whose learning rate is "
                    f"{type(rate).__name__}. Give it a number, or leave the "
                    "callback out."
                )
        self._fit_begins = True

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Takes up what is known of the epochs before.

        Args:
            epoch: index of the epoch; 0 begins anew.
            logs: not looked at.
        """
        if self._fit_begins:
            self._fit_begins = False
            if not epoch:
                self._state = CutState()
            elif self.state_file is not None:
                self._state = cut_state.read(self.state_file, epoch)
        self._first_batch, self._batches, self._total = None, 0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Notes the first batch: an epoch may go on in its middle."""
        if self._first_batch is None:
            self._first_batch = batch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Adds to the window, and decides where it ends.

        Args:
            batch: index of the last step taken, within the epoch.
            logs: means since the epoch's begin.
        """
        if isinstance(self.window, str):  # "epoch"
            return
        batches = batch + 1 - (self._first_batch or 0)
        total = self._seen(logs) * batches
        self._state = state = self._state.with_batches(
            total - self._total, batches - self._batches
        )
        self._batches, self._total = batches, total
        if state.batches >= self.window:
            self._window_ends(state.total / state.batches)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds to `logs`, decides, and writes what is known.

        Args:
            epoch: index of the epoch.
            logs: gets the learning rate.
        """
        if logs is not None:
            logs.update(probe.learning_rates(self.model))
        if self.window == EPOCH:
            self._window_ends(self._seen(logs))
        if self.state_file is not None and getattr(
            self.model.distribute_strategy, "is_chief", True
        ):
            try:
                cut_state.write(self.state_file, epoch + 1, self._state)
            except OSError as error:
                logging.error("%s Training goes on.", error)

    # Pieces.

    def _seen(self, logs: Logs) -> float:
        if logs is None or self.monitor not in logs:
            raise ValueError(
                "`monitor` must be what `fit` logs where a window ends. "
                f"Received: monitor={self.monitor!r}, window={self.window!r}; "
                f"logged are {', '.join(logs or {})}."
            )
        return float(logs[self.monitor])

    def _window_ends(self, loss: float) -> None:
        """Cuts, if the loss has stagnated with this window."""
        state = self._state
        known = state.known.after(loss, self.min_delta)
        done = max(state.cuts_done, self._cuts_told())
        if done != state.cuts_done:
            known = stagnation.Stagnation()
        if known.waited >= self.patience and self._decides():
            known = stagnation.Stagnation()
            if done < len(self.cuts):
                self._cut(self.cuts[done], loss)
                done += 1
        self._state = CutState(known, done)

    def _cut(self, cut: float, loss: float) -> None:
        for stepper in probe.steppers(self.model):
            rate = float(keras.ops.convert_to_numpy(stepper.learning_rate))
            stepper.learning_rate = rate / cut
            logging.info(
                "Learning rate %.4g, after %.4g: for %d windows `%s` was not "
                "lower than before; it is %.4g.",
                rate / cut,
                rate,
                self.patience,
                self.monitor,
                loss,
            )

    def _decides(self) -> bool:
        """Whether it is this process that does; the others of a cluster obey.

        A strategy with a `client` trains each worker by its own loss.
        """
        extended = self.model.distribute_strategy.extended
        client = getattr(extended, "client", None)
        return client is None or bool(client.is_chief)

    def _cuts_told(self) -> int:
        """How many cuts a cluster knows of, from a chief before this one."""
        extended = self.model.distribute_strategy.extended
        client = getattr(extended, "client", None)
        if client is None or not client.joined:
            return 0
        told = client.instruction
        if not told.learning_rate or not told.instead_of:
            return 0
        return stagnation.cuts_within(
            told.instead_of / told.learning_rate, self.cuts
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 1
