"""Epochs that all workers of a cluster end together."""

import keras

from tf_elastic.monitor.run_clock import Logs
from tf_elastic.strategies.elastic_multi_worker import (
    ElasticMultiWorkerStrategy,
)


class _EpochIsOver:
    """What `Model.stop_training` holds if only the epoch is to end."""


class SharedEpochs(keras.callbacks.Callback):
    """Ends an epoch when all workers *together* have done their samples.

    A quick worker trains on more of them, a slow one on fewer. So all end
    together, and none stops early, which would hold the center back (thesis,
    section 4.3.3). Every worker passes this callback to `fit`, with the same
    numbers, an endless data set, and no `steps_per_epoch`.

    A worker's next epoch ends one epoch's samples after its last one, however
    far the others have gone meanwhile (while the chief validates, say), and
    has one batch at least. One that comes late, or is started again, begins
    at the first epoch that `fit` is told to do, has one batch in each that
    the others are through with, and so ends with them.

    Args:
        samples_per_epoch: of all workers together, >= 1.

    Raises:
        ValueError: `samples_per_epoch` is not a positive integer.

    Example:

    ```python
    model.fit(
        train.repeat(),
        epochs=10,
        callbacks=[te.callbacks.SharedEpochs(samples_per_epoch=50_000)],
    )
    ```

    Reference:
        Zhang (2016), section 4.3.3.
    """

    def __init__(self, samples_per_epoch: int) -> None:
        super().__init__()
        if not (
            isinstance(samples_per_epoch, int)
            and not isinstance(samples_per_epoch, bool)
            and samples_per_epoch > 0
        ):
            raise ValueError(
                "`samples_per_epoch` must be an integer >= 1: of all workers "
                f"together. Received: samples_per_epoch={samples_per_epoch!r}."
            )
        self.samples_per_epoch = samples_per_epoch

    def on_train_begin(self, logs: Logs = None) -> None:
        """Looks at what it is used with.

        Raises:
            ValueError: the strategy has no center that counts, or
                `steps_per_epoch` was given.
        """
        strategy = self.model.distribute_strategy
        if not isinstance(strategy, ElasticMultiWorkerStrategy):
            raise ValueError(
                "`SharedEpochs` needs a center that counts all workers' "
                f"samples. Received: strategy={type(strategy).__name__}. Use "
                "`ElasticMultiWorkerStrategy`, or leave the callback out and "
                "give `steps_per_epoch`."
            )
        if self.params.get("steps"):
            raise ValueError(
                "With `SharedEpochs` the number of a worker's steps is not "
                "known before. Received: an epoch of "
                f"{self.params['steps']} steps. Leave `steps_per_epoch` out, "
                "and pass an endless data set: `train.repeat()`."
            )
        strategy.extended.hear_of_others()

    def on_train_end(self, logs: Logs = None) -> None:
        """Lets the chief say whether it has stopped."""
        self.model.distribute_strategy.extended.fit_ends()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Decides when the epoch ends."""
        # Of the process, not of this object: each `fit` may have its own.
        extended = self.model.distribute_strategy.extended
        if extended.epoch_end is None:
            total, own = self._samples()
            done = total // self.samples_per_epoch
            if not own:  # This process is new, the cluster perhaps not.
                # A center that knows less than the epochs before has begun
                # anew with this `fit`.
                done = min(done, epoch)
            extended.epoch_end = done * self.samples_per_epoch
        extended.epoch_end += self.samples_per_epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Ends the epoch if all have done their part."""
        end = self.model.distribute_strategy.extended.epoch_end
        if self._samples()[0] >= end and not self.model.stop_training:
            self.model.stop_training = _EpochIsOver()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Lets training go on, unless somebody else has stopped it."""
        if isinstance(self.model.stop_training, _EpochIsOver):
            self.model.stop_training = False
        group = self.model.distribute_strategy.extended.group
        [is_stopped] = group.agreed([bool(self.model.stop_training)])
        if is_stopped and not self.model.stop_training:
            self.model.stop_training = True

    def _samples(self) -> tuple[int, int]:
        """As the leader of a group knows them, so that all decide alike."""
        strategy: ElasticMultiWorkerStrategy = self.model.distribute_strategy
        total, own = strategy.samples_trained()
        total, own = strategy.extended.group.agreed([total, own])
        return total, own
