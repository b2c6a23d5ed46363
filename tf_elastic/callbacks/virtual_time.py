"""The callback that tells the time of a virtual cluster."""

import os

import keras

from tf_elastic.monitor import event_file
from tf_elastic.monitor import probe
from tf_elastic.monitor.event_file import EventFile
from tf_elastic.monitor.run_clock import Logs


class VirtualTime(keras.callbacks.Callback):
    """Adds to the `logs` of epochs how far a virtual cluster is.

    So `History`, `CSVLogger` and the progress bar have, since the beginning:

    - `virtual_seconds`: up to the last step;
    - `local_steps`: of all workers together;
    - `samples`: that they have trained on, if `batch_size` is given;
    - `bytes`: of messages and answers;
    - `goodput`: the share of local steps whose work has reached the center.

    Callbacks see them if they come after it in the list; those that Keras
    adds do.

    Args:
        batch_size: of a worker, an integer >= 1, to count samples. None
            (default) leaves them out.
        log_dir: folder for TensorBoard, or None. All numbers of `logs` are
            written there over virtual milliseconds, for curves that can be
            compared by time.

    Raises:
        ValueError: `batch_size` is out of its range; or, when training
            begins, the strategy is another.
        ImportError: `log_dir` is given and `tensorboard` is not installed.

    Example:

    ```python
    history = model.fit(
        train,
        validation_data=test,
        callbacks=[te.callbacks.VirtualTime(batch_size=32)],
    )
    plt.plot(history.history["virtual_seconds"], history.history["val_loss"])
    ```
    """

    def __init__(
        self,
        batch_size: int | None = None,
        log_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if batch_size is not None and (
            type(batch_size) is not int or batch_size < 1
        ):
            raise ValueError(
                "`batch_size` must be an integer >= 1, or None. "
                f"Received: batch_size={batch_size!r}."
            )
        if log_dir:
            event_file.check_can_write(log_dir)
        self.batch_size = batch_size
        self.log_dir = log_dir
        self._writer: EventFile | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Looks at what it is used with.

        Raises:
            ValueError: the strategy has no virtual time.
        """
        if not probe.is_virtual(self.model):
            strategy = type(self.model.distribute_strategy).__name__
            raise ValueError(
                "`VirtualTime` needs a cluster with a time of its own. "
                f"Received: strategy={strategy}. Use `VirtualClusterStrategy`, "
                "or leave the callback out."
            )
        if self.log_dir:
            self._writer = EventFile(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds to `logs`, and writes.

        Args:
            epoch: index of the epoch.
            logs: gets the new names.
        """
        logs = {} if logs is None else logs
        logs.update(probe.virtual(self.model, self.batch_size))
        if self._writer:
            now_ms = round(1000 * logs["virtual_seconds"])
            self._writer.write(now_ms, logs)

    def on_train_end(self, logs: Logs = None) -> None:
        """Closes the file for TensorBoard."""
        if self._writer:
            self._writer.close()
            self._writer = None
